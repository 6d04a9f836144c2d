"""What is in a package's output."""

import os
import subprocess
from pathlib import Path

import pytest

from nixery.http.answers import TABLE
from nixery.model.build_errors import TooManyFiles
from nixery.model.tree import Item, Kind
from nixery.packing.listing import list_output, weight

A = "/nix/store/" + "a" * 32 + "-a"
B = "/nix/store/" + "b" * 32 + "-b"
FOLDER, OTHER, DANGLING = Item(Kind.FOLDER), Item(Kind.OTHER), Item(Kind.DANGLING)


class Store:
    """A store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / A[1:]).mkdir(parents=True)
        (folder / B[1:] / "bin").mkdir(parents=True)
        (folder / B[1:] / "bin" / "x").touch()

    def physical(self, path: str) -> str:
        return str(self.folder) + path

    def link(self, name: str, target: str) -> None:
        place = Path(self.physical(A)) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def item(self, name: str) -> Item:
        """What a name of A is listed as."""
        return list_output(A, self.physical)[name]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_folders_and_files(store: Store) -> None:
    """Folders, empty ones too, and files are listed by their names below the output."""
    top = Path(store.physical(A))
    (top / "bin" / "deep").mkdir(parents=True)
    (top / "bin" / "x").touch()
    (top / os.fsdecode(b"\xff\n")).touch()
    assert list_output(A, store.physical) == {
        "bin": FOLDER,
        "bin/deep": FOLDER,
        "bin/x": OTHER,
        "\udcff\n": OTHER,
    }


def test_outputs_that_are_no_folders(store: Store) -> None:
    """An output that is a file has nothing to be listed, nor has a link that leads to none."""
    file = Path(store.physical(A + "-file"))
    file.touch()
    for number, target in enumerate((A + "-file", A + "-none", "/etc")):
        Path(store.physical(f"{B}-{number}")).symlink_to(target)
        assert list_output(f"{B}-{number}", store.physical) == {}
    assert list_output(A + "-file", store.physical) == {}


def test_outputs_that_are_links(store: Store) -> None:
    """An output that is a link to a folder has what that folder has."""
    Path(store.physical(A + "-link")).symlink_to(B)
    assert list_output(A + "-link", store.physical) == {"bin": FOLDER, "bin/x": OTHER}


@pytest.mark.parametrize(
    ("name", "target", "item"),
    [
        ("sbin", "bin", Item(Kind.ALIAS, "bin")),
        ("share/x", "../bin", Item(Kind.ALIAS, "../bin")),
        ("sbin", f"{A}/bin", OTHER),
        ("sbin", f"{B}/bin", FOLDER),
        ("sbin", f"../{B[11:]}/bin", FOLDER),
        ("share/bin", f"{B}/bin", OTHER),
        ("me", ".", OTHER),
        ("x", "bin/x", OTHER),
        ("x", f"{B}/bin/x", OTHER),
    ],
)
def test_links(store: Store, name: str, target: str, item: Item) -> None:
    """A relative link to a folder of the same output is an alias, one at the top to another's
    folder is that folder; other links that lead somewhere are as good as files."""
    store.link("bin/x", f"{B}/bin/x")
    store.link(name, target)
    assert store.item(name) == item


@pytest.mark.parametrize(
    "target",
    [
        *("nowhere", "../nowhere", "/nix/store/nowhere", f"{B}/bin/nowhere", f"{B}/bin/x/y"),
        *("/etc", "/bin/sh", "/nix/store/../../etc", "../../../../etc", "loop"),
    ],
)
def test_links_that_lead_nowhere_in_a_container(store: Store, target: str) -> None:
    """What is not in the store is not in the image either, whatever this machine has there."""
    store.link("loop", target)
    assert store.item("loop") == DANGLING
    for path in ("/etc", "/bin/sh"):
        Path(store.physical(path)).mkdir(parents=True, exist_ok=True)
    assert store.item("loop") == DANGLING


def test_links_on_the_way(store: Store) -> None:
    """A link through other links, absolute ones among them, is followed within the store,
    wherever the store lies on this machine."""
    store.link("there", B)
    store.link("x", "there/bin/x")
    store.link("y", "there/bin/../bin/nowhere")
    assert store.item("x") == OTHER
    assert store.item("y") == DANGLING


def test_long_chains(store: Store) -> None:
    """As many links in a row are followed as Linux follows."""
    store.link("0", f"{B}/bin/x")
    for number in range(1, 45):
        store.link(str(number), str(number - 1))
    assert store.item("39") == OTHER
    assert store.item("40") == DANGLING
    with pytest.raises(OSError, match="symbolic links"):
        os.stat(Path(store.physical(A)) / "41")


def test_what_cannot_be_read(store: Store) -> None:
    """An output that is not there is an error of the system that names it."""
    with pytest.raises(FileNotFoundError, match=A + "-none"):
        list_output(A + "-none", store.physical)


def test_folders_of_others_at_the_top(store: Store) -> None:
    """A link at an output's top to a folder of another store path counts as that folder, as deep
    as the folder itself goes; one further down is a link."""
    top = Path(store.physical(A))
    (top / "share").mkdir(parents=True)
    (top / "bin").symlink_to(B + "/bin")
    (top / "store").symlink_to("/nix/store")
    (top / "share" / "bin").symlink_to(B + "/bin")
    Path(store.physical(B + "/bin/again")).symlink_to(B)
    assert list_output(A, store.physical) == {
        "bin": FOLDER,
        "bin/x": OTHER,
        "bin/again": OTHER,
        "share": FOLDER,
        "share/bin": OTHER,
        "store": OTHER,
    }


def test_deep_folders(store: Store) -> None:
    """Folders may be as deep as the system takes them."""
    deep = "/".join("d" * 1500)
    subprocess.run(["mkdir", "-p", f"{store.physical(A)}/{deep}"], check=True)
    try:
        listing = list_output(A, store.physical)
    finally:
        subprocess.run(["rm", "-rf", store.physical(A)], check=True)  # pytest can't
    assert len(listing) == 1500
    assert listing[deep] == FOLDER


def test_too_many_files(store: Store) -> None:
    """What would take too much memory is refused, with the output's name."""
    for number in range(100):
        (Path(store.physical(A)) / str(number)).touch()
    listing = list_output(A, store.physical)
    assert list_output(A, store.physical, weight(listing)) == listing
    with pytest.raises(TooManyFiles) as refused:
        list_output(A, store.physical, weight(listing) - 1)
    assert "too many files" in str(refused.value)
    assert TABLE[TooManyFiles].status == 400  # it is the image's fault, not the daemon's
