"""The difference of two images: what came, what went, what has another version, what to pull."""

import re
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from enum import Enum

import attrs

from nixery.model.closure import store_name
from nixery.model.contents import LayerFacts, PathFacts, split_name

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
        if self.before.numbers == self.after.numbers:
            return Difference.REBUILT
        ranks = [max(map(_rank, each.numbers)) for each in (self.before, self.after)]
        if ranks[0] == ranks[1]:
            return Difference.REBUILT
        return Difference.UPGRADED if ranks[0] < ranks[1] else Difference.DOWNGRADED

    @property
    def growth(self) -> int:
        """The bytes that the later image has more."""
        return self.after.size - self.before.size


def changes(before: Iterable[PathFacts], after: Iterable[PathFacts]) -> list[Change]:
    """The names of which two images have other store paths, in order."""
    old, new = ({facts.path: facts for facts in paths} for paths in (before, after))
    named = {path: _name_of(path) for path in {**old, **new}}
    # Most of two images is often the same: no more is looked at than what isn't.
    differing = {named[path][0] for path in old.keys() ^ new.keys()}
    both = [_by_name(each.values(), named, differing) for each in (old, new)]
    return [Change(n, *(each.get(n, _NONE) for each in both)) for n in sorted(differing)]


def to_pull(before: Iterable[LayerFacts], after: Iterable[LayerFacts]) -> list[LayerFacts]:
    """The layers that a client of one image has to pull for another."""
    known = {layer.digest for layer in before}
    return list({layer.digest: layer for layer in after if layer.digest not in known}.values())


def _by_name(
    paths: Iterable[PathFacts], named: Mapping[str, tuple[str, str]], wanted: Container[str]
) -> Mapping[str, Versions]:
    """What an image has of some names.

    :param named: store path → name and version.
    """
    every: defaultdict[str, list[PathFacts]] = defaultdict(list)
    for facts in paths:
        if (name := named[facts.path][0]) in wanted:
            every[name].append(facts)
    return {
        name: Versions(
            _in_order({named[facts.path][1] for facts in held}),
            frozenset(facts.path for facts in held),
            sum(facts.size for facts in held),
        )
        for name, held in every.items()
    }


def _in_order(versions: Collection[str]) -> tuple[str, ...]:
    if len(versions) == 1:  # as of almost all names; the ranks take a while
        return tuple(versions)
    return tuple(sorted(versions, key=lambda each: (_rank(each), each)))


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
