"""The database of a Nix store, for Nix in an image.

Its bytes depend on the registered paths alone, and not on the version of SQLite. Its schema is 10,
that of all versions of Nix from 2.0 on.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from nixery.model.registration import ValidPath

SCHEMA = 10
"""The version of the tables, as in Nix."""

# Nix looks for tables and columns by their names; foreign keys and the trigger let it delete.
_TABLES = """
CREATE TABLE ValidPaths (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  path TEXT UNIQUE NOT NULL, hash TEXT NOT NULL, registrationTime INTEGER NOT NULL,
  deriver TEXT, narSize INTEGER, ultimate INTEGER, sigs TEXT, ca TEXT);
CREATE TABLE Refs (
  referrer INTEGER NOT NULL, reference INTEGER NOT NULL, PRIMARY KEY (referrer, reference),
  FOREIGN KEY (referrer) REFERENCES ValidPaths(id) ON DELETE CASCADE,
  FOREIGN KEY (reference) REFERENCES ValidPaths(id) ON DELETE RESTRICT);
CREATE TABLE DerivationOutputs (
  drv INTEGER NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (drv, id),
  FOREIGN KEY (drv) REFERENCES ValidPaths(id) ON DELETE CASCADE);
"""
_INDEXES = """
CREATE INDEX IndexReferrer ON Refs(referrer);
CREATE INDEX IndexReference ON Refs(reference);
CREATE INDEX IndexDerivationOutputs ON DerivationOutputs(path);
CREATE TRIGGER DeleteSelfRefs BEFORE DELETE ON ValidPaths BEGIN
  DELETE FROM Refs WHERE referrer = old.id AND reference = old.id;
END;
"""
# https://www.sqlite.org/fileformat.html
_PAGE = 4096
# Header fields that depend on the program that wrote the file, and how often it did.
_FILE_HEADER = 100
_CHANGES, _VALID_FOR, _VERSION = 24, 92, 96
_PLAIN_VERSION = 3_008_000
# Kinds of pages → the size of their headers.
_PAGE_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
_CELLS, _CONTENT = 3, 5
# Defaults that depend on how SQLite was compiled.
_SETTINGS = f"""
PRAGMA page_size = {_PAGE};
PRAGMA auto_vacuum = NONE;
PRAGMA encoding = 'UTF-8';
PRAGMA secure_delete = ON;
"""
_REGISTERED = 1  # seconds since the epoch, as the files' own times


def make_database(paths: Sequence[ValidPath]) -> bytes:
    """A database in which store paths are registered.

    :param paths: includes all their references.
    :raises ValueError: if one is missing.
    """
    ordered = sorted(paths, key=lambda each: each.path)
    numbers = {each.path: number for number, each in enumerate(ordered, 1)}
    try:
        references = sorted((numbers[e.path], numbers[r]) for e in ordered for r in e.references)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is referred to and not registered") from None
    rows = [(numbers[e.path], e.path, f"sha256:{e.hash}", _REGISTERED, e.size) for e in ordered]
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_SETTINGS + _TABLES)
        database.executemany(
            "INSERT INTO ValidPaths (id, path, hash, registrationTime, narSize) "
            "VALUES (?, ?, ?, ?, ?)",
            rows,
        )
        database.executemany("INSERT INTO Refs VALUES (?, ?)", references)
        database.commit()
        database.executescript(_INDEXES)
        return _plain(database.serialize())


def _plain(content: bytes) -> bytes:
    """Clear all that depends on the version of SQLite: fields of the header, and the unused space
    of pages."""
    plain = bytearray(content)
    for offset, number in ((_CHANGES, 1), (_VALID_FOR, 1), (_VERSION, _PLAIN_VERSION)):
        plain[offset : offset + 4] = number.to_bytes(4, "big")
    for page in range(0, len(plain), _PAGE):
        header = page or _FILE_HEADER
        cells = int.from_bytes(plain[header + _CELLS : header + _CELLS + 2], "big")
        start = header + _PAGE_HEADERS[plain[header]] + 2 * cells
        end = page + int.from_bytes(plain[header + _CONTENT : header + _CONTENT + 2], "big")
        plain[start:end] = bytes(end - start)
    return bytes(plain)
