"""What a package set is found to hold: packages, and the names that images ask for them by.

All texts come from the set and may hold anything: they are made printable here.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from nixery.model.closure import is_store_path
from nixery.model.contents import split_name
from nixery.model.image import MAX_NAME_LENGTH, META, exact_image_name, image_name, spellings

_MARK = b"trace: @nixery@"
_END = b"@nixery@"
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"

Path = tuple[str, ...]
"""The attribute names that lead to something in a set."""


@attrs.frozen
class Package:
    """A package of a set.

    :param path: the attribute names that lead to it.
    :param image: how an image's name asks for it; empty if none can.
    :param name: with the version, as its store path has it.
    :param pname: without the version.
    :param program: the one that it is mainly for.
    :param programs: what is known to be in its ``bin/``.
    :param available: whether the set says that it can be built as it is configured.
    :param outputs: their names.
    :param licences: SPDX identifiers, or the set's names where it has none.
    """

    path: Path
    image: str = ""
    name: str = ""
    pname: str = ""
    version: str = ""
    description: str = ""
    homepage: str = ""
    program: str = ""
    available: bool = True
    programs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        """Its path as it is shown."""
        return ".".join(self.path)

    def encode(self) -> bytes:
        """The package as one line of JSON."""
        fields = {a.name: getattr(self, a.name) for a in attrs.fields(Package)}
        kept = {name: value for name, value in fields.items() if value not in ("", ())}
        return json.dumps(kept, separators=(",", ":")).encode("ascii")

    @classmethod
    def decode(cls, line: bytes) -> "Package":
        """Read what :meth:`encode` wrote.

        :raises ValueError: if it is something else.
        """
        try:
            fields = json.loads(line)
            lists = {name: tuple(fields.get(name, ())) for name in ("path", "programs", *_LISTS)}
            return cls(**{**fields, **lists})
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no package: {line[:100]!r}") from error


_LISTS = ("outputs", "licences")
_TEXTS = ("name", "pname", "version", "description", "homepage", "program")


@attrs.frozen
class Told:
    """The output of ``nix/index.nix``, of one run or several.

    :param visited: every attribute that was looked at, in order.
    :param found: those that are packages; ``image`` is not filled in.
    """

    visited: list[Path]
    found: list[Package]


def parse_told(lines: Iterable[bytes]) -> Told:
    """Read what ``nix/index.nix`` told; any other line is passed over.

    :param lines: of Nix's standard error.
    """
    visited: dict[Path, None] = {}
    found: dict[Path, Package] = {}
    for line in lines:
        said = _said(line)
        if isinstance(said, list):
            if (path := _path(said)) is not None:
                visited[path] = None
        elif isinstance(said, dict):
            package = _package(said)
            if package is not None:
                found[package.path] = package
    return Told(list(visited), list(found.values()))


def told_outputs(lines: Iterable[bytes]) -> list[str]:
    """The store paths of the outputs that ``nix/index.nix`` told, in order; each once.

    :param lines: of Nix's standard error.
    """
    found: set[str] = set()
    for line in lines:
        said = _said(line)
        paths = said.get("paths") if isinstance(said, dict) else None
        if isinstance(paths, list):
            found.update(p for p in paths if isinstance(p, str) and is_store_path(p))
    return sorted(found)


def told_path(line: bytes) -> Path | None:
    """The path that a line tells before something is looked at; nothing if it is another line."""
    return _path(_said(line)) if line.startswith(_MARK + b"[") else None


def _said(line: bytes) -> Any:
    if not (line.startswith(_MARK) and line.endswith(_END)):
        return None
    try:
        return json.loads(line[len(_MARK) : -len(_END)].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _path(said: Any) -> Path | None:
    right = isinstance(said, list) and said and all(isinstance(step, str) for step in said)
    return tuple(said) if right else None


def _package(said: dict[str, Any]) -> Package | None:
    path = _path(said.get("path"))
    if path is None:
        return None
    texts = {field: _line(said.get(field)) for field in _TEXTS}
    name, version = split_name(texts["name"])
    texts["pname"] = texts["pname"] or name
    texts["version"] = texts["version"] or version
    shown = tuple(_line(step) for step in path)
    available = said.get("available") is not False
    if not texts["homepage"].startswith(("http://", "https://")):
        texts["homepage"] = ""
    lists = {field: _lines(said.get(field)) for field in _LISTS}
    return Package(shown, **texts, **lists, available=available)  # type: ignore[arg-type]


def _lines(texts: Any) -> tuple[str, ...]:
    every = texts if isinstance(texts, list) else []
    return tuple(filter(None, map(_line, every)))


def _line(text: Any) -> str:
    """A text as one line that a terminal can print."""
    if not isinstance(text, str):
        return ""
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c.isspace() else _UNPRINTABLE for c in text)
    return " ".join(text.split())


# --- by which names images ask for them ---------------------------------------------------


def with_image_names(told: Told) -> list[Package]:
    """The packages, each with the name that images ask for it by, if there is one.

    Steps of a path are looked up as ``nix/realise.nix`` does it: by each of their spellings, then
    without regard to case; so another attribute beside it may be in the way of one.
    """
    beside: defaultdict[Path, list[str]] = defaultdict(list)
    for path in told.visited:
        beside[path[:-1]].append(path[-1])
    asked = {parent: _names_of(members) for parent, members in beside.items()}
    return [attrs.evolve(package, image=_image(package.path, asked)) for package in told.found]


def _names_of(members: Sequence[str]) -> dict[str, str]:
    """Of attributes that lie beside each other, those that a step of a name can mean → the step."""
    there = set(members)
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for member in members:
        alike[member.lower()].append(member)
    names: dict[str, str] = {}
    for member in members:
        for name in (image_name(member), exact_image_name(member)):
            if name and _finds(name, there, alike) == [member]:
                names.setdefault(member, name)
    return names


def _finds(name: str, there: set[str], alike: dict[str, list[str]]) -> list[str]:
    """The attributes that a step of an image's name may mean."""
    written = spellings(name)
    exact = [spelling for spelling in written if spelling in there]
    return exact[:1] or [m for spelling in written for m in alike.get(spelling.lower(), [])]


def _image(path: Path, asked: dict[Path, dict[str, str]]) -> str:
    steps = [asked.get(path[:end], {}).get(step, "") for end, step in enumerate(path)]
    name = ".".join(steps)
    return name if all(steps) and len(name) <= MAX_NAME_LENGTH and name not in META else ""
