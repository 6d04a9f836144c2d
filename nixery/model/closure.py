"""Store paths and the graph of their references."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import attrs

from nixery.model.about import About

STORE = "/nix/store"
# https://nix.dev/manual/nix/latest/protocols/store-path
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+\-._?=]{1,211}")


class Node(TypedDict):
    """A store path's facts in a :data:`Graph`.

    ``size`` is the path's NAR size in bytes, ``references`` are store paths, never its own;
    ``hash`` is that of the NAR as Nix writes it, ``deriver`` the store path of its derivation,
    ``signers`` are the names of the keys that it is signed with, and ``built`` tells that this
    machine's Nix built it: each is left out if it is empty.
    """

    size: int
    references: Sequence[str]
    hash: NotRequired[str]
    deriver: NotRequired[str]
    signers: NotRequired[Sequence[str]]
    built: NotRequired[bool]


Graph = Mapping[str, Node]
"""Store path → node; closed (every reference is a key) and acyclic."""


@attrs.frozen
class Root:
    """A package of an image and the store path it was realised to.

    :param package: the name as the image asks for it.
    :param attribute: the attribute path that it was found at.
    :param path: the store path of its first output.
    :param others: those of its other outputs that come along.
    :param program: the name of its main program, if it says which that is.
    :param said: what it says of images, as JSON has it; none if it says nothing.
    :param library: the kind of interpreter that is to find it in the root file system, if it is a
        library that has no other way of being found.
    :param about: what is said of it for people.
    :param name: of its derivation, with the version.
    """

    package: str
    attribute: str
    path: str
    others: tuple[str, ...] = ()
    program: str = ""
    said: Any = None
    library: str = ""
    about: About = attrs.Factory(About)
    name: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The store paths of all outputs that are in the image."""
        return (self.path, *self.others)


@attrs.frozen
class Realisation:
    """Packages that are built and lie in the store.

    :param roots: one for each package, in the order of their names.
    :param graph: the closure of all roots.
    :param guard: what keeps the store paths from garbage collection until it is released.
    :param has_library: whether the set has something named ``library``.
    :param substituted: store path → the binary cache that it came from, without credentials; for
        those whose origin is remembered.
    """

    roots: tuple[Root, ...]
    graph: Graph
    guard: str
    has_library: bool
    substituted: Mapping[str, str] = attrs.Factory(dict)

    @property
    def paths(self) -> list[str]:
        """The store paths of all packages, in the order of the packages' names."""
        return [path for root in self.roots for path in root.paths]


def closure_size(graph: Graph, *paths: str) -> tuple[int, int]:
    """Store paths with all that they refer to, directly or not.

    :return: how many store paths that is, and their NAR sizes together, in bytes.
    """
    reached, waiting = set(paths), list(paths)
    while waiting:
        new = set(graph[waiting.pop()]["references"]) - reached
        reached |= new
        waiting += new
    return len(reached), sum(graph[each]["size"] for each in reached)


def is_store_path(text: str) -> bool:
    """Whether a text is a whole store path, and no file within one."""
    return _STORE_PATH.fullmatch(text) is not None


def store_name(path: str) -> str:
    """The name of a store path or derivation: without store folder, hash and ``.drv``."""
    return path.removeprefix(STORE + "/")[33:].removesuffix(".drv")


def parse_path_info(text: str) -> Graph:
    """Read what ``nix path-info --json --recursive`` prints, in any of its versions' forms.

    Nix 2.8 prints a list of objects, 2.19 and later an object keyed by store path, and format 2
    nests that under ``info`` with base names for paths.

    :raises ValueError: if the text has another form, or a reference leads out of the closure.
    """
    try:
        entries = _entries(json.loads(text))
        known = {path: path for path in entries}
        graph = {path: _node(path, info, known) for path, info in entries.items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"path information lacks something: {error!r}") from error
    for path, node in graph.items():
        for reference in node["references"]:
            if reference not in graph:
                raise ValueError(f"{path} refers to {reference}, which the closure lacks")
    return graph


def _node(path: str, info: Any, known: Mapping[str, str]) -> Node:
    """
    :param known: all store paths. References are the same objects, which take no memory of their
        own, and no time when the graph is given to another process.
    """
    every = {
        known.get(name) or known.get(full := _absolute(name), full) for name in info["references"]
    }
    node: Node = {"size": int(info["narSize"]), "references": sorted(every - {path})}
    # The rest only describes the path: what has another form in some version is left out.
    if isinstance(nar := info.get("narHash"), str) and nar.startswith("sha256-"):
        node["hash"] = nar
    if isinstance(deriver := info.get("deriver"), str) and deriver.endswith(".drv"):
        node["deriver"] = _absolute(deriver)
    signatures = info.get("signatures") or ()
    if signers := {text.partition(":")[0] for text in signatures if isinstance(text, str)}:
        node["signers"] = sorted(signers)
    if info.get("ultimate") is True:
        node["built"] = True
    return node


def _entries(document: Any) -> dict[str, Any]:
    if isinstance(document, list):
        return {_absolute(info["path"]): info for info in document}
    if isinstance(document, dict):
        inner = document["info"] if isinstance(document.get("info"), dict) else document
        return {_absolute(path): info for path, info in inner.items()}
    raise ValueError("path information is neither a list nor an object")


def _absolute(path: str) -> str:
    full = path if path.startswith("/") else f"{STORE}/{path}"
    if not is_store_path(full):
        raise ValueError(f"{path[:300]!r} is not a store path")
    return full
