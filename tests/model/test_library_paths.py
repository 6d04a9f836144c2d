"""Variables that lead interpreters to libraries."""

import pytest

from nixery.model.closure import Root
from nixery.model.library_paths import search_paths
from nixery.model.tree import Item, Kind, Output


def variables(kind: str, *folders: str) -> dict[str, str]:
    listing = dict.fromkeys(folders, Item(Kind.FOLDER))
    root = Root("x", "x", "/x", library=kind)
    return search_paths([root, Root("y", "y", "/y")], [Output("x", "/x", listing)])


@pytest.mark.parametrize(
    ("kind", "folder", "found"),
    [
        ("python", "lib/python3.12/site-packages", {"PYTHONPATH": "/lib/python3.12/site-packages"}),
        ("perl", "lib/perl5/site_perl/5.40.0", {"PERL5LIB": "/lib/perl5/site_perl/5.40.0"}),
        ("ruby", "lib/ruby/gems/3.3.0", {"GEM_PATH": "/lib/ruby/gems/3.3.0"}),
        (
            "lua",
            "share/lua/5.2",
            {"LUA_PATH": "/share/lua/5.2/?.lua;/share/lua/5.2/?/init.lua;"},
        ),
        ("ghc", "lib/ghc-9", {}),
        ("", "lib/python3.12/site-packages", {}),
    ],
)
def test_folders_of_libraries(kind: str, folder: str, found: dict[str, str]) -> None:
    """Each kind of interpreter is told in its own way; what is no library tells nothing."""
    assert variables(kind, "lib", "share", folder, f"{folder}/inner") == found


def test_several_folders() -> None:
    """All folders of libraries are told, in the order of their names."""
    found = variables("python", "lib/python3/dist-packages", "lib/python3.11/site-packages")
    expected = "/lib/python3.11/site-packages:/lib/python3/dist-packages"
    assert found == {"PYTHONPATH": expected}
