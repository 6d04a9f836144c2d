"""From Debian packages to the derivations of the set: which there are, what they depend on."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apt import SetupError
from deb import Deb

_ODD = re.compile(r"[^A-Za-z0-9+._-]")


@dataclass
class Node:
    """A derivation to be: one Debian package, or several that need each other."""

    debs: list[str] = field(default_factory=list)
    depends: set[str] = field(default_factory=set)
    interpreters: set[str] = field(default_factory=set)


def make_lock(debs: Mapping[str, Deb], roots: Mapping[str, Any], architecture: str) -> Any:
    """The lock file: everything that ``default.nix`` needs to know.

    :param debs: all downloaded packages by name.
    :param roots: the contents of ``roots.json``.
    :raises SetupError: if packages depend on each other in circles that ``roots.json`` neither
        merges nor breaks.
    """
    place = _places(debs, roots)
    nodes = _nodes(debs, roots, place)
    _break_cycles(nodes)
    wanted = [place[name] for name in _root_names(roots) if name in debs]
    return {
        "arch": architecture,
        "attributes": {
            attribute: place[name]
            for attribute, name in roots["attributes"].items()
            if name in debs
        },
        "packages": {
            name: _package(name, nodes[name], debs, roots) for name in sorted(reach(nodes, wanted))
        },
    }


def _root_names(roots: Mapping[str, Any]) -> list[str]:
    return sorted({*roots["attributes"].values(), *roots["also"]})


def _places(debs: Iterable[str], roots: Mapping[str, Any]) -> dict[str, str]:
    """Debian package → the node that it is part of."""
    merged = {member: name for name, members in roots["merged"].items() for member in members}
    return {name: merged.get(name, name) for name in debs}


def _nodes(
    debs: Mapping[str, Deb], roots: Mapping[str, Any], place: Mapping[str, str]
) -> dict[str, Node]:
    left_out = set(roots["leftOut"])
    provided = {other: name for name, deb in debs.items() for other in deb.provides}
    nodes: dict[str, Node] = {}
    for name, deb in debs.items():
        if name in left_out and name not in _root_names(roots):
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


def _break_cycles(nodes: dict[str, Node]) -> None:
    """Where packages need each other only to run some script, the script does without."""
    for circle in circles(nodes):
        for name in circle:
            needless = nodes[name].interpreters & circle - {name}
            nodes[name].depends -= needless
    left = [sorted(circle) for circle in circles(nodes)]
    if left:
        raise SetupError(f"these packages need each other; merge them in roots.json: {left}")


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


def _package(name: str, node: Node, debs: Mapping[str, Deb], roots: Mapping[str, Any]) -> Any:
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
        "depends": sorted(node.depends),
        "wrapped": roots["wrapped"].get(name),
        "interpreter": roots["interpreters"].get(name),
        "program": _main_program(name, {each for deb in members for each in deb.programs}),
    }


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
