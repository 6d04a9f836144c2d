"""The difference of two images: what came, what went, what has another version, what to pull."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import Enum

import attrs

from nixery.model.closure import store_name
from nixery.model.contents import Contents, LayerFacts, PathFacts, split_name

# What nixpkgs calls the outputs of packages, as it stands at the end of store paths.
_OUTPUT = re.compile(r"(.+)-(bin|data|debug|dev|devdoc|doc|info|lib|man|out|py|static|terminfo)")
_PART = re.compile(r"[0-9]+|[^0-9.-]+")


class Difference(Enum):
    """How what has one name differs between two images."""

    ADDED = "added"
    REMOVED = "removed"
    UPGRADED = "upgraded"
    DOWNGRADED = "downgraded"
    REBUILT = "rebuilt"


@attrs.frozen
class Versions:
    """All that an image has of one name.

    :param numbers: the versions; one of them is empty if a store path has none.
    :param paths: store paths.
    :param size: bytes of their NAR serialisations together.
    """

    numbers: tuple[str, ...] = ()
    paths: frozenset[str] = frozenset()
    size: int = 0


@attrs.frozen
class Change:
    """A difference in what has one name.

    :param name: of derivations, without version and output.
    """

    name: str
    before: Versions
    after: Versions

    @property
    def difference(self) -> Difference:
        """How it differs."""
        if not self.before.paths:
            return Difference.ADDED
        if not self.after.paths:
            return Difference.REMOVED
        ranks = [max(map(_rank, each.numbers)) for each in (self.before, self.after)]
        if ranks[0] == ranks[1] or self.before.numbers == self.after.numbers:
            return Difference.REBUILT
        return Difference.UPGRADED if ranks[0] < ranks[1] else Difference.DOWNGRADED

    @property
    def growth(self) -> int:
        """The bytes that the later image has more."""
        return self.after.size - self.before.size


def changes(before: Contents, after: Contents) -> list[Change]:
    """The names of which two images have other store paths, in order."""
    old, new = _by_name(before.paths), _by_name(after.paths)
    every = [Change(n, old.get(n, _NONE), new.get(n, _NONE)) for n in sorted({*old, *new})]
    return [each for each in every if each.before.paths != each.after.paths]


def to_pull(before: Iterable[LayerFacts], after: Iterable[LayerFacts]) -> list[LayerFacts]:
    """The layers that a client of one image has to pull for another."""
    known = {layer.digest for layer in before}
    return list({layer.digest: layer for layer in after if layer.digest not in known}.values())


def _by_name(paths: Iterable[PathFacts]) -> Mapping[str, Versions]:
    every: defaultdict[str, list[tuple[str, PathFacts]]] = defaultdict(list)
    for facts in paths:
        name, version = _name_of(facts.path)
        every[name].append((version, facts))
    return {
        name: Versions(
            tuple(sorted({version for version, _ in held}, key=lambda each: (_rank(each), each))),
            frozenset(facts.path for _, facts in held),
            sum(facts.size for _, facts in held),
        )
        for name, held in every.items()
    }


def _name_of(path: str) -> tuple[str, str]:
    """The name and version of what a store path is an output of."""
    whole = store_name(path)
    name, version = split_name(whole)
    output = _OUTPUT.fullmatch(version or name)
    if output is None:
        return name, version
    return (name, output[1]) if version else (output[1], "")


def _rank(version: str) -> tuple[tuple[int, int, str], ...]:
    """What orders versions as Nix does: ``1.0pre`` is before ``1.0``, and that before ``1.0a``.

    Where Nix knows no difference, as between ``1.0`` and ``1-0``, the texts are of one rank.
    """
    parts = [_part(part) for part in _PART.findall(version)]
    return (*parts, _END)


def _part(part: str) -> tuple[int, int, str]:
    if part == "pre":
        return (0, 0, "")
    return (3, int(part), "") if part[0] in "0123456789" else (2, 0, part)


_END = (1, 0, "")
_NONE = Versions()
