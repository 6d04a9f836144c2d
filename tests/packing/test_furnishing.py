"""Root file systems, as packing processes make them."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from nixery.model.build_errors import TooManyFiles
from nixery.model.closure import Realisation, Root
from nixery.model.execution import Execution
from nixery.model.identity import Identity
from nixery.model.image import parse_image
from nixery.model.layer_key import layer_key
from nixery.model.tree import Data, Entry, File, Folder, Link
from nixery.packing.furnishing import FurnishRequest, list_outputs, write_entries
from nixery.packing.listing import weight
from nixery.packing.worker import read_entries

A, B = (f"/nix/store/{letter * 32}-{letter}-1.0" for letter in "ab")
ENTRIES: dict[str, Entry] = {
    "etc": Folder(),
    "etc/x": File("text", 0o600),
    "sh": Link("/nix/store/x"),
}


def request(store: Path, **files: int) -> FurnishRequest:
    """A request for packages with some files each, all of the same names."""
    roots = []
    for package, count in files.items():
        path = f"/nix/store/{package * 32}-{package}-1.0"
        roots.append(Root(package, package, path))
        folder = Path(f"{store}{path}/share")
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"file{number}").touch()
    graph: Any = {root.path: {"size": 1, "references": []} for root in roots}
    realisation = Realisation(tuple(roots), graph, "guard", False)
    image = parse_image("/".join(files), "latest")
    return FurnishRequest(image, Identity(image.name, "1"), realisation, None, str(store), "p")


def made(request: FurnishRequest, sink: Path) -> list[dict[str, Any]]:
    """The answers to a request, as they arrive."""
    with open(sink, "wb") as file:
        return [json.loads(json.dumps(answer)) for answer in request.answers(file.write)]


def test_keys_stand_for_the_contents() -> None:
    """Layer keys differ with any path, any fact of any entry, and the packer; the order of paths
    does not count."""

    def keys(*paths: str, **entries: Entry) -> list[str]:
        written = list(write_entries(entries, lambda line: None))
        return [layer_key(packer, paths, written) for packer in ("p", "q")]

    found = [*keys(), *keys(A), *keys(B), *keys(A, B), *keys(A, **ENTRIES)]
    some = (Folder(), Folder(0o700), Link(""), Link("x"), File(""), File("x"), File("", 0o600))
    for each in (*some, Data(b"\xff"), Data(b"\xff", owner=1)):
        found += keys(x=each)
    for count in range(1, 4):
        found += keys(**dict(itertools.islice(ENTRIES.items(), count)))
    assert len(set(found)) == len(found)
    assert keys(A, B) == keys(B, A)


def test_entries_arrive(tmp_path: Path) -> None:
    """What was written is read, every fact of each entry, however many there are."""
    entries: dict[str, Entry] = {**ENTRIES, "x": Data(b"\xff\n", 0o640, 5)}
    entries |= {os.fsdecode(b"\xff%d" % number): Link("x") for number in range(2500)}
    with open(tmp_path / "entries", "wb") as file:
        lines = list(write_entries(entries, file.write))
    assert len(lines) == 3
    read = list(read_entries(str(tmp_path / "entries")))
    assert [entry.name for entry in read] == list(entries)
    assert [tuple(entry)[1:] for entry in read[:4]] == [
        ("dir", 0o755, b"", "", 0),
        ("file", 0o600, b"text", "", 0),
        ("link", 0o777, b"", "/nix/store/x", 0),
        ("file", 0o640, b"\xff\n", "", 5),
    ]


def test_a_wide_package(tmp_path: Path) -> None:
    """The answers stay small, whatever the packages have: they are read by the reactor."""
    answers = made(request(tmp_path / "store", a=1500, b=1500), tmp_path / "entries")
    *collided, last = answers
    names = [name for answer in collided for name, kept, lost in answer["collided"]]
    assert sorted(names) == sorted(f"share/file{number}" for number in range(1500))
    assert max(len(json.dumps(answer)) for answer in answers) < 8192
    with open(tmp_path / "entries", encoding="ascii") as file:
        assert last["key"] == layer_key("p", (), [line.rstrip("\n") for line in file])
    assert Execution(**last["execution"]).environment["PATH"]
    assert len(list(read_entries(str(tmp_path / "entries")))) > 1500


def test_refusals(tmp_path: Path) -> None:
    """What the packages are to blame for is told with all its facts."""
    asked = request(tmp_path / "store", a=1)
    (root,) = asked.realisation.roots
    wrong = attrs.evolve(root, said={"no": "such key"})
    asked = attrs.evolve(asked, realisation=attrs.evolve(asked.realisation, roots=(wrong,)))
    (answer,) = made(asked, tmp_path / "entries")
    assert answer["error"]["kind"] == "EvaluationFailed"
    assert "no" in answer["error"]["facts"]["message"]


def test_a_path_that_is_gone(tmp_path: Path) -> None:
    """A store path whose files are not there is named."""
    asked = request(tmp_path / "store", a=1)
    asked = attrs.evolve(asked, store=str(tmp_path / "none"))
    (answer,) = made(asked, tmp_path / "entries")
    assert answer["error"]["kind"] == "unreadable"
    assert answer["error"]["path"].endswith(asked.realisation.paths[0])


def test_all_packages_share_a_limit(tmp_path: Path) -> None:
    """What may be listed of an image's packages is a limit of all of them together."""
    realisation = request(tmp_path, a=2, b=3).realisation

    def physical(path: str) -> str:
        return f"{tmp_path}{path}"

    listings = [output.listing for output in list_outputs(realisation, physical)]
    together = sum(map(weight, listings))
    assert len(list_outputs(realisation, physical, together)) == len(listings) == 2
    with pytest.raises(TooManyFiles):
        list_outputs(realisation, physical, together - 1)
