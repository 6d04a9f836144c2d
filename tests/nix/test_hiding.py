"""What is left out of Nix's words."""

import pytest

from nixery.model.events import LogLine, Said
from nixery.model.source import Channel, Folder, GitRepository
from nixery.nix.hiding import without_place


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at /srv/set/x.nix:3:4:", "at set/x.nix:3:4:"),
        ("opening '/srv/set'", "opening 'set'"),
        ("/srv/settings and /srv/set", "/srv/settings and set"),
        ("/nix/store/x", "/nix/store/x"),
    ],
)
def test_where_a_package_folder_lies(text: str, shown: str) -> None:
    """What Nix says is told without the path of the package folder; other sources have none, and
    what packages print is their own."""
    assert without_place(Folder("/srv/set"), None, Said(0, text)) == Said(0, shown)
    assert without_place(GitRepository("file:///srv/set"), None, Said(0, text)) == Said(0, shown)
    for other in (Folder("/"), Channel("nixos-unstable"), GitRepository("ssh://h/srv/set")):
        assert without_place(other, None, Said(0, text)) == Said(0, text)
    assert without_place(Folder("/srv/set"), None, LogLine("x", text)) == LogLine("x", text)


def test_where_a_store_lies() -> None:
    """Files of a store in a folder are told as they are to be found in the images."""
    said = Said(0, "error: in '/srv/own/nix/store/x/default.nix', not /srv/own")
    shown = Said(0, "error: in '/nix/store/x/default.nix', not /srv/own")
    assert without_place(Channel("nixos-unstable"), "/srv/own", said) == shown
    assert without_place(Channel("nixos-unstable"), None, said) == said
