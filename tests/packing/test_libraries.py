"""What is found in a closure: C library, terminals, fonts."""

from pathlib import Path

import pytest

from nixery.model.closure import Graph
from nixery.model.data_places import ClosureData
from nixery.model.image import AMD64, ARM64
from nixery.packing.libraries import find_c_library, find_data

LOADER = "ld-linux-x86-64.so.2"


class Store:
    """A store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.graph: dict[str, dict[str, object]] = {}

    def add(self, name: str, *libraries: str, needs: tuple[str, ...] = ()) -> str:
        path = f"/nix/store/{name}"
        for library in libraries:
            file = self.folder / path[1:] / "lib" / library
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        self.graph[path] = {"size": 1, "references": list(needs)}
        return path

    def add_file(self, path: str, name: str) -> None:
        file = self.folder / path[1:] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def physical(self, path: str) -> str:
        return f"{self.folder}{path}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def graph(store: Store) -> Graph:
    return store.graph  # type: ignore[return-value]


def test_a_closure_without_one(store: Store) -> None:
    """There may be none, and no lib folder at all."""
    store.add("data")
    assert find_c_library(graph(store), AMD64, store.physical) is None


def test_loader_and_libraries(store: Store) -> None:
    """The loader and the libraries that programs are linked with are found, those of compilers
    where they are too; what only compilers look for is left out."""
    c = store.add("glibc", LOADER, "libc.so.6", "libm.so.6", "libc.so", "libc.a", "crt1.o")
    gcc = store.add("gcc-lib", "libstdc++.so.6", "libstdc++.so", needs=(c,))
    found = find_c_library(graph(store), AMD64, store.physical)
    assert found is not None
    assert found.loader == f"{c}/lib/{LOADER}"
    assert found.libraries == {
        "libc.so.6": f"{c}/lib/libc.so.6",
        "libm.so.6": f"{c}/lib/libm.so.6",
        "libstdc++.so.6": f"{gcc}/lib/libstdc++.so.6",
    }
    assert found.locale is None


def test_the_locale_is_found(store: Store) -> None:
    """The data of C.UTF-8 are found if the C library has them."""
    c = store.add("glibc", LOADER, "locale/C.utf8/LC_CTYPE")
    found = find_c_library(graph(store), AMD64, store.physical)
    assert found is not None
    assert found.locale == f"{c}/lib/locale/C.utf8"


def test_the_one_that_most_refer_to(store: Store) -> None:
    """Of several C libraries, that which most store paths refer to counts."""
    old = store.add("a-old", LOADER)
    new = store.add("b-new", LOADER)
    for number in range(3):
        store.add(f"p{number}", needs=(new, old) if number == 0 else (new,))
    found = find_c_library(graph(store), AMD64, store.physical)
    assert found is not None
    assert found.loader == f"{new}/lib/{LOADER}"


def test_another_architecture(store: Store) -> None:
    """A loader for another architecture is none."""
    store.add("glibc", LOADER)
    assert find_c_library(graph(store), ARM64, store.physical) is None


def test_no_data(store: Store) -> None:
    """A closure may have neither descriptions of terminals nor settings of fonts."""
    store.add("x", "libx.so")
    assert find_data(graph(store), store.physical) == ClosureData()


def test_data_of_those_that_most_refer_to(store: Store) -> None:
    """Terminals and settings of fonts are found, those of the store path that most refer to."""
    old, new, fonts = store.add("a-old"), store.add("b-new"), store.add("fonts", needs=("b-new",))
    store.add("x", needs=(new,))
    store.add_file(old, "share/terminfo/x/xterm")
    store.add_file(new, "lib/terminfo/x/xterm")
    store.add_file(fonts, "etc/fonts/fonts.conf")
    found = find_data(graph(store), store.physical)
    assert found == ClosureData(f"{new}/lib/terminfo", f"{fonts}/etc/fonts/fonts.conf")


def test_data_that_is_elsewhere(store: Store, tmp_path: Path) -> None:
    """A link to a place of this machine, or to a store path that is not in the closure, is passed
    over, and so is a file where a folder should be."""
    (tmp_path / "terminfo").mkdir()
    stray = store.add("stray")
    store.add_file(stray, "share/terminfo/x/xterm")
    del store.graph[stray]
    for name, target in (("a", tmp_path / "terminfo"), ("b", f"{stray}/share/terminfo")):
        store.add_file(store.add(name), "share/x")
        (tmp_path / "nix" / "store" / name / "share" / "terminfo").symlink_to(target)
    store.add_file(store.add("c"), "share/terminfo")
    assert find_data(graph(store), store.physical) == ClosureData()
