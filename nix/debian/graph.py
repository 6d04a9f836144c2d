"""From Debian packages to the derivations of the set: which there are, what they depend on."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from deb import Deb
from programs import SetupError

_RELEASE = re.compile(r"\{([a-z0-9.+-]+)\}")
_MINOR = re.compile(r"(?:\d+:)?(\d+\.\d+)")
_ODD = re.compile(r"[^A-Za-z0-9+._-]")


@dataclass
class Node:
    """A derivation to be: one Debian package, or several that need each other."""

    debs: list[str] = field(default_factory=list)
    depends: set[str] = field(default_factory=set)
    interpreters: set[str] = field(default_factory=set)


def make_lock(
    debs: Mapping[str, Deb], roots: Mapping[str, Any], architecture: str, release: str
) -> Any:
    """The lock file: everything that ``default.nix`` needs to know.

    :param debs: all downloaded packages by name.
    :param roots: the contents of ``roots.json``. Names in it that begin with those of packages and
        end with versions are patterns, and ``{NAME}`` is the version of a package, as far as it
        is part of folders' names: ``5.36``.
    :param release: of Debian or what is made from it, as package URLs name it: ``debian-12``.
    :raises SetupError: if packages need each other about which ``roots.json`` says different
        things.
    """
    roots = _with_versions(roots, debs)
    place = _places(debs, roots)
    nodes = _nodes(debs, roots, place)
    _break_circles(nodes)
    _merge_circles(nodes, place, roots)
    wanted = [place[name] for name in root_names(roots) if name in debs]
    return {
        "arch": architecture,
        "attributes": {
            attribute: place[name]
            for attribute, name in roots["attributes"].items()
            if name in debs
        },
        "packages": {
            name: _package(name, nodes[name], debs, roots, release)
            for name in sorted(reach(nodes, wanted))
        },
    }


def root_names(roots: Mapping[str, Any]) -> list[str]:
    """The Debian packages that are asked for; the others come with them."""
    return sorted({*roots["attributes"].values(), *roots["also"]})


def _with_versions(roots: Mapping[str, Any], debs: Mapping[str, Deb]) -> Any:
    """Put versions of this release in the place of ``{NAME}``."""

    def version(match: re.Match[str]) -> str:
        found = _MINOR.match(debs[match[1]].version) if match[1] in debs else None
        return found[1] if found else match[0]

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: fill(each) for name, each in value.items()}
        if isinstance(value, list):
            return [fill(each) for each in value]
        return _RELEASE.sub(version, value) if isinstance(value, str) else value

    return fill(roots)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _places(debs: Iterable[str], roots: Mapping[str, Any]) -> dict[str, str]:
    """Debian package → the node that it is part of."""
    merged: Mapping[str, list[str]] = roots["merged"]
    return {
        deb: next((name for name, members in merged.items() if _matches(deb, members)), deb)
        for deb in debs
    }


def _nodes(
    debs: Mapping[str, Deb], roots: Mapping[str, Any], place: Mapping[str, str]
) -> dict[str, Node]:
    left_out = {name for name in debs if _matches(name, roots["leftOut"])}
    provided = {other: name for name, deb in debs.items() for other in deb.provides}
    asked_for = set(root_names(roots))
    nodes: dict[str, Node] = {}
    for name, deb in debs.items():
        if name in left_out - asked_for:
            continue
        node = nodes.setdefault(place[name], Node())
        node.debs.append(name)
        for group in deb.dependencies:
            chosen = choose(group, debs, provided)
            if chosen and chosen not in left_out:
                node.depends.add(place[chosen])
        found = {place[other] for other in deb.interpreters if other in debs}
        node.depends |= found
        node.interpreters |= found
    for name, wrapping in roots["wrapped"].items():
        if name in nodes:
            nodes[name].depends |= set(wrapping["needs"])
    for name in roots["alone"]:
        if name in nodes:
            nodes[name] = Node(debs=nodes[name].debs)
    for name, node in nodes.items():
        node.depends = (node.depends & nodes.keys()) - {name}
    return nodes


def choose(group: Iterable[str], debs: Iterable[str], provided: Mapping[str, str]) -> str | None:
    """Which of some alternatives was downloaded, by its name or as another's."""
    names = list(group)
    known = set(debs)
    real = next((name for name in names if name in known), None)
    return real or next((provided[name] for name in names if name in provided), None)


def _break_circles(nodes: dict[str, Node]) -> None:
    """Where packages need each other only to run some script, the script does without."""
    for circle in circles(nodes):
        for name in circle:
            needless = nodes[name].interpreters & circle - {name}
            nodes[name].depends -= needless


def _merge_circles(nodes: dict[str, Node], place: dict[str, str], roots: Mapping[str, Any]) -> None:
    """Make one node of those that need each other: which these are differs between releases.

    It has the name of one that ``roots.json`` says more about, or else the shortest.

    :raises SetupError: if there is more to say about two of them.
    """
    needs = {need for wrapping in roots["wrapped"].values() for need in wrapping["needs"]}
    known = {*roots["merged"], *roots["wrapped"], *roots["interpreters"], *roots["parts"], *needs}
    for circle in circles(nodes):
        if len(circle & known) > 1:
            words = ", ".join(sorted(circle))
            raise SetupError(f"these packages need each other; merge them in roots.json: {words}")
        name = min(circle, key=lambda each: (each not in known, len(each), each))
        members = [nodes.pop(each) for each in sorted(circle)]
        nodes[name] = Node(
            debs=[deb for member in members for deb in member.debs],
            depends=set().union(*(member.depends for member in members)),
        )
        place.update((deb, name) for deb in nodes[name].debs)
        for node in nodes.values():
            node.depends = {name if each in circle else each for each in node.depends}
        nodes[name].depends.discard(name)


def circles(nodes: Mapping[str, Node]) -> list[set[str]]:
    """Sets of more than one node that can all reach each other."""
    ahead = {name: reach(nodes, [name]) for name in nodes}
    found: dict[frozenset[str], None] = {}
    for name in nodes:
        together = frozenset(other for other in ahead[name] if name in ahead[other])
        if len(together) > 1:
            found[together] = None
    return [set(circle) for circle in found]


def reach(nodes: Mapping[str, Node], starts: Iterable[str]) -> set[str]:
    """All nodes that some depend on, themselves included."""
    reached: set[str] = set()
    todo = list(starts)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += nodes[name].depends
    return reached


def _package(
    name: str, node: Node, debs: Mapping[str, Deb], roots: Mapping[str, Any], release: str
) -> Any:
    main = debs[name] if name in debs else debs[sorted(node.debs)[0]]
    members = [debs[member] for member in sorted(node.debs)]
    return {
        "version": _ODD.sub("-", main.version.partition(":")[2] or main.version),
        "description": main.description,
        "homepage": main.homepage,
        "debs": [
            *({"file": deb.file, "sha256": deb.sha256, "only": ""} for deb in members),
            *_parts(roots["parts"].get(name, {}), debs),
        ],
        "purls": [_purl(deb, release) for deb in members],
        "depends": sorted(node.depends),
        "wrapped": roots["wrapped"].get(name),
        "interpreter": roots["interpreters"].get(name),
        "program": _main_program(name, {each for deb in members for each in deb.programs}),
    }


def _purl(deb: Deb, release: str) -> str:
    """The package URL of a Debian package, by which scanners know it."""
    vendor, version = release.partition("-")[0], quote(deb.version, safe=":~")
    architecture = deb.file.removesuffix(".deb").rpartition("_")[2]
    return f"pkg:deb/{vendor}/{quote(deb.name)}@{version}?arch={architecture}&distro={release}"


def _main_program(name: str, programs: set[str]) -> str | None:
    """The program that a package is for: that of its name, or its only one."""
    if name in programs:
        return name
    return next(iter(programs)) if len(programs) == 1 else None


def _parts(parts: Mapping[str, str], debs: Mapping[str, Deb]) -> list[Any]:
    """Packages of which a derivation has a folder, without what they depend on.

    :param parts: package → the folder's place in a store path.
    """
    return [
        {"file": debs[name].file, "sha256": debs[name].sha256, "only": only}
        for name, only in parts.items()
        if name in debs
    ]
