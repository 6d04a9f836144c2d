"""Folders that are ours, and those that are somebody else's."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest

from nixery.ownership import FORMAT, MARKER, NotOurs, check, claim
from nixery.storage.keys import RECORDS

DIGEST, UUID = "0" * 64, uuid.UUID(int=0).hex
OLD_STORAGE = [
    *(f"layers/{DIGEST}", f"used/{DIGEST}", f"builds/{DIGEST}", f"manifests/{DIGEST}"),
    *(f"leases/{DIGEST}", f"staging/tmpabc_1234/{UUID}", "scrubbed", "lost+found/x"),
]
OLD_STATE = [
    *(f"history/{'0' * 16}.json", f"history/{'0' * 16}.events.zst", "search/index.gz"),
    *(f"git/{UUID}.git/HEAD", f"sources/{UUID}/0", f"kept/{UUID}/root", f"roots/7.{UUID}/root"),
    *(f"revisions/{UUID}.json", "popularity.json", "nix/store/x", "cache/nix/x", ".ssh/config"),
    *("storage/layers/base.psd", "twistd.log"),
]
FOREIGN = [
    *("staging/website/index.html", "leases/contract.pdf", "layers/base.psd", "history/notes.txt"),
    *("used/x", "builds/setup.exe", "manifests/cargo.txt", "git/linux/HEAD", "kept/letters/x"),
    *(
        "roots/beer.txt",
        "sources/main.c",
        "search/tmp.txt",
        "revisions/1.doc",
        "thesis.tex",
        "layers",
    ),
    *("reports/2026.pdf", f"layers/{DIGEST}.psd", "photos/1.jpg"),
]


def fill(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("seen")


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", FOREIGN)
def test_of_somebody_else(tmp_path: Path, name: str) -> None:
    """A folder with anything in it that is not of our form is refused, and nothing is touched."""
    fill(tmp_path, [name])
    before = tree(tmp_path)
    for look in (check, claim):
        with pytest.raises(NotOurs, match="which is not Nixery's"):
            look(str(tmp_path))
    assert tree(tmp_path) == before
    assert "seen" in {path.read_text() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", [n for n in FOREIGN if "/" in n and not n.startswith("photos")])
@pytest.mark.parametrize("old", [OLD_STORAGE, OLD_STATE], ids=["storage", "state"])
def test_mixed(tmp_path: Path, old: list[str], name: str) -> None:
    """One of an earlier version in whose folders is what is not of our form is refused, too."""
    fill(tmp_path, [*old, name])
    with pytest.raises(NotOurs, match=os.path.basename(os.path.dirname(name))):
        check(str(tmp_path))


@pytest.mark.parametrize("old", [OLD_STORAGE, OLD_STATE], ids=["storage", "state"])
def test_of_earlier_versions(tmp_path: Path, old: list[str]) -> None:
    """Folders of earlier versions are marked; files of the operator's beside ours are no matter
    where all is there that every start has made."""
    fill(tmp_path, old)
    assert claim(str(tmp_path)) is None
    assert MARKER in os.listdir(tmp_path)
    (tmp_path / MARKER).unlink()
    fill(tmp_path, ["htpasswd"])
    check(str(tmp_path))


@pytest.mark.parametrize("there", [True, False])
def test_new(tmp_path: Path, there: bool) -> None:
    """A folder that is empty, or not there, is made ours; from then on it is, whatever is in it.
    Looking alone makes nothing."""
    folder = tmp_path / "a" / "folder"
    if there:
        folder.mkdir(parents=True)
    check(str(folder))
    assert folder.exists() is there
    for _ in range(2):
        assert claim(str(folder)) is None
    assert tree(folder) == {MARKER}
    assert f"format {FORMAT}\n" in (folder / MARKER).read_text()
    fill(folder, FOREIGN[:3])
    check(str(folder))


def test_what_settings_name(tmp_path: Path) -> None:
    """What settings name may lie in a folder of ours, as the storage in the state folder."""
    fill(tmp_path, ["images/layers/x", "htpasswd"])
    with pytest.raises(NotOurs):
        check(str(tmp_path))
    named = [str(tmp_path), str(tmp_path / "images" / "of" / "nixery"), str(tmp_path / "htpasswd")]
    check(str(tmp_path), [*named, "/elsewhere"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"nixery folder, format {FORMAT + 1}\n", "newer"),
        ("notes", "not a file that Nixery"),
        ("", ""),
    ],
)
def test_markers(tmp_path: Path, text: str, words: str) -> None:
    """A marker of a newer version is refused, and what is none; an empty one, made by hand or cut
    by a crash, will do."""
    (tmp_path / MARKER).write_text(text)
    if not words:
        check(str(tmp_path))
        return
    with pytest.raises(NotOurs, match=words):
        check(str(tmp_path))


def test_what_can_not_be_marked(tmp_path: Path) -> None:
    """That a folder can't be marked is said, and raises nothing."""
    (tmp_path / "file").touch()
    assert isinstance(claim(str(tmp_path / "file" / "x")), OSError)


@pytest.mark.parametrize("kind", RECORDS)
def test_every_kind_of_record(tmp_path: Path, kind: str) -> None:
    """A storage is recognized by whatever records it has, where it could not be marked."""
    fill(tmp_path, [f"layers/{DIGEST}", f"{kind}/{DIGEST}"])
    check(str(tmp_path))
