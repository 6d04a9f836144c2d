"""Registrations of store paths in a Nix database, as ``nix-store --dump-db`` prints them."""

import re
from collections.abc import Iterator, Sequence

import attrs

from nixery.model.closure import is_store_path

_HASH = re.compile(r"[0-9a-f]{64}")


@attrs.frozen
class ValidPath:
    """A store path's registration.

    :param hash: of its NAR serialisation: a sha256 as 64 hexadecimal digits.
    :param size: of its NAR serialisation, in bytes.
    :param references: the store paths that it refers to, itself among them if it does.
    """

    path: str
    hash: str
    size: int
    references: tuple[str, ...]


def parse_registration(text: str, paths: Sequence[str]) -> list[ValidPath]:
    """Read the registration of some store paths, which comes in lines: path, hash, size, deriver,
    and the number of references, which follow.

    :param paths: those that it was asked for, in order.
    :raises ValueError: if the text has another form, or is not about these.
    """
    lines = iter(text.splitlines())
    found = sorted((_valid_path(path, lines) for path in lines), key=lambda each: each.path)
    if [each.path for each in found] != list(paths):
        raise ValueError("the registration is not that of the store paths that were asked for")
    return found


def _valid_path(path: str, lines: Iterator[str]) -> ValidPath:
    digest, size, _, count = (_next(lines) for _ in range(4))
    references = tuple(sorted(_next(lines) for _ in range(int(count))))
    if not all(map(is_store_path, (path, *references))) or not _HASH.fullmatch(digest):
        raise ValueError(f"{path[:300]!r} is not registered as store paths are")
    return ValidPath(path, digest, int(size), references)


def _next(lines: Iterator[str]) -> str:
    line = next(lines, None)
    if line is None:
        raise ValueError("the registration ends too early")
    return line
