"""The database of a store in an image."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nixery.model.registration import ValidPath
from nixery.packing.database import make_database


def closure(count: int) -> list[ValidPath]:
    """Store paths that refer to themselves and to some before them."""
    rng = random.Random(count)
    names = [f"/nix/store/{number:032d}-{'x' * rng.randint(1, 180)}" for number in range(count)]
    return [
        ValidPath(
            name,
            f"{rng.getrandbits(256):064x}",
            rng.getrandbits(40),
            tuple(sorted({name, *rng.sample(names[: number + 1], min(number, 9))})),
        )
        for number, name in enumerate(names)
    ]


def opened(content: bytes, folder: Path) -> sqlite3.Connection:
    (folder / "db.sqlite").write_bytes(content)
    database = sqlite3.connect(folder / "db.sqlite")
    database.execute("PRAGMA foreign_keys = ON")
    return database


@pytest.mark.parametrize("count", [0, 1, 50, 3000])
def test_all_is_registered(tmp_path: Path, count: int) -> None:
    """Every path has its facts, and its references with itself; nothing else is there."""
    paths = closure(count)
    with closing(opened(make_database(paths), tmp_path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        rows = database.execute("SELECT path, hash, narSize FROM ValidPaths ORDER BY path")
        assert rows.fetchall() == [(p.path, f"sha256:{p.hash}", p.size) for p in paths]
        references = database.execute(
            "SELECT a.path, b.path FROM Refs JOIN ValidPaths a ON a.id = referrer "
            "JOIN ValidPaths b ON b.id = reference ORDER BY 1, 2"
        )
        assert references.fetchall() == [(p.path, r) for p in paths for r in p.references]
        blank = "SELECT COUNT(*) FROM ValidPaths WHERE COALESCE(deriver, ultimate, sigs, ca) != ''"
        assert database.execute(blank).fetchall() == [(0,)]


def test_paths_can_be_deleted_and_added(tmp_path: Path) -> None:
    """A path that no other refers to can be deleted, though it refers to itself; one that others
    refer to can't; and a path that is added has a number of its own."""
    paths = closure(3)
    alone = ValidPath(
        f"/nix/store/{'z' * 32}-alone", "0" * 64, 1, (f"/nix/store/{'z' * 32}-alone",)
    )
    needed, needing = paths[0], ValidPath(f"/nix/store/{'y' * 32}-x", "0" * 64, 1, (paths[0].path,))
    with closing(opened(make_database([*paths, alone, needing]), tmp_path)) as database:
        database.execute("DELETE FROM ValidPaths WHERE path = ?", (alone.path,))
        with pytest.raises(sqlite3.IntegrityError):
            database.execute("DELETE FROM ValidPaths WHERE path = ?", (needed.path,))
        added = ("/nix/store/new", f"sha256:{'0' * 64}", 1)
        database.execute(
            "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES (?, ?, ?)", added
        )
        assert database.execute("SELECT MAX(id) FROM ValidPaths").fetchall() == [(6,)]


def test_the_bytes_depend_on_what_is_registered_alone() -> None:
    """The order of the paths does not matter, nor which SQLite writes the file: its header does
    not say, and what no cell has of a page is empty."""
    paths = closure(500)
    content = make_database(paths)
    assert make_database(paths[::-1]) == content
    assert content[24:28] == content[92:96] == (1).to_bytes(4, "big")
    assert content[96:100] == (3_008_000).to_bytes(4, "big")
    for start in range(4096, len(content), 4096):
        page = content[start : start + 4096]
        header = 8 if page[0] in (10, 13) else 12
        cells, end = int.from_bytes(page[3:5], "big"), int.from_bytes(page[5:7], "big")
        assert not any(page[header + 2 * cells : end])


def test_what_is_not_closed() -> None:
    """A path that refers to one that is not registered makes no database."""
    with pytest.raises(ValueError, match="/nix/store/gone is referred to"):
        make_database([ValidPath("/nix/store/x", "0" * 64, 1, ("/nix/store/gone",))])
