"""The contents of an image: its packages, store paths and layers, and where they come from."""

import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nixery.model.closure import Realisation, Root
from nixery.model.image import Image
from nixery.model.manifest import Layer
from nixery.model.source import PinnedSource, without_credentials

_MOST_PURLS = 50
_MOST = 128 * 1024 * 1024
"""Bytes of packed contents that are unpacked."""

_VERSION = re.compile("-(?=[^A-Za-z])")

LOCAL = "local"
"""The origin of what was copied from a place on this machine."""
_REMOTE = frozenset({"http", "https", "s3", "ssh", "ssh-ng"})


@attrs.frozen
class PathFacts:
    """A store path of the closure.

    :param size: bytes of its NAR serialisation.
    :param references: store paths, without itself.
    :param deriver: the store path of the derivation that made it; empty if unknown.
    :param signers: the names of the keys that a binary cache signed it with.
    :param hash: of its NAR serialisation, as Nix writes it: ``sha256-`` and base 64; empty if
        unknown.
    """

    path: str
    size: int
    references: tuple[str, ...] = ()
    deriver: str = ""
    signers: tuple[str, ...] = ()
    hash: str = ""


@attrs.frozen
class PackageFacts:
    """A package that the image was asked for, as the package set describes it.

    :param package: its attribute path.
    :param paths: the store paths of its outputs in the image.
    :param name: without the version.
    :param licences: SPDX identifiers or expressions, or other names where the set has none.
    :param cpe: the name that databases of vulnerabilities have for it.
    :param purls: package URLs of what it was made of.
    """

    package: str
    paths: tuple[str, ...]
    name: str = ""
    version: str = ""
    description: str = ""
    homepage: str = ""
    licences: tuple[str, ...] = ()
    cpe: str = ""
    purls: tuple[str, ...] = ()


@attrs.frozen
class LayerFacts:
    """A layer.

    :param size: compressed bytes.
    :param paths: the store paths in it; none for the root file system.
    """

    digest: str
    size: int
    paths: tuple[str, ...] = ()


@attrs.frozen
class Contents:
    """The contents of an image of one platform.

    :param name: the shortest name that asks for it.
    :param source: the package source's name, without credentials.
    :param revision: of the package source.
    :param made: when the image was made, in seconds since the epoch; it enters no blob.
    :param layers: the lowest first.
    :param address: the URL that the image names as its source; empty if it names none.
    :param built: the store paths that were built here.
    :param substituted: store path → the binary cache that it came from, without credentials, as
        far as it is known; :data:`LOCAL` for a place on this machine.
    :param programs: what may be run by name: see :class:`nixery.model.execution.Execution`.
    :param tools: of ``bash``, ``sh`` and ``sleep``, those that it has.
    """

    name: str
    tag: str
    system: str
    source: str
    revision: str
    made: float
    packages: tuple[PackageFacts, ...]
    paths: tuple[PathFacts, ...]
    layers: tuple[LayerFacts, ...]
    address: str = ""
    built: tuple[str, ...] = ()
    substituted: Mapping[str, str] = attrs.Factory(dict)
    programs: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


def contents_of(
    image: Image,
    pinned: PinnedSource,
    realisation: Realisation,
    layers: Sequence[Layer],
    made: float,
    address: str = "",
    programs: Sequence[str] = (),
    tools: Sequence[str] = (),
) -> Contents:
    """The contents of an image that was just made."""
    graph = realisation.graph
    built = tuple(path for path in sorted(graph) if graph[path].get("built"))
    return Contents(
        image.name,
        image.tag,
        image.system,
        pinned.source.label,
        pinned.revision,
        made,
        tuple(map(_package, realisation.roots)),
        tuple(
            PathFacts(
                path,
                graph[path]["size"],
                tuple(graph[path]["references"]),
                graph[path].get("deriver", ""),
                tuple(graph[path].get("signers", ())),
                graph[path].get("hash", ""),
            )
            for path in sorted(graph)
        ),
        tuple(
            LayerFacts(str(layer.descriptor.digest), layer.descriptor.size, layer.paths)
            for layer in layers
        ),
        address,
        built,
        {
            path: _disclosed(origin)
            for path, origin in sorted(realisation.substituted.items())
            if path in graph and path not in built
        },
        tuple(programs),
        tuple(tools),
    )


def _disclosed(origin: str) -> str:
    """A binary cache as everybody may be told of it: where one lies on this machine is private."""
    shown = without_credentials(origin)
    return shown if shown.partition("://")[0] in _REMOTE else LOCAL


def _package(root: Root) -> PackageFacts:
    about = root.about
    name, version = split_name(root.name)
    licences = (each.spdx or each.name for each in about.licenses)
    return PackageFacts(
        root.attribute,
        root.paths,
        name,
        about.version or version,
        about.description,
        about.homepage,
        tuple(dict.fromkeys(filter(None, licences))),
        about.cpe,
        tuple(dict.fromkeys(filter(None, about.purls)))[:_MOST_PURLS],
    )


def split_name(name: str) -> tuple[str, str]:
    """A derivation's name without its version, and that, as ``builtins.parseDrvName`` has them:
    the version begins after the first dash that no letter follows."""
    own, *rest = _VERSION.split(name, 1)
    return own, rest[0] if rest else ""


def pack_contents(contents: Contents) -> str:
    """Contents as a short ASCII text. It takes a tenth of a second for 10,000 store paths."""
    number = {facts.path: at for at, facts in enumerate(contents.paths)}

    def numbers(paths: Sequence[str]) -> list[int]:
        return [number[path] for path in paths]

    document = {
        **{field: getattr(contents, field) for field in _PLAIN},
        "packages": [
            [package, numbers(outputs), *rest]
            for package, outputs, *rest in map(attrs.astuple, contents.packages)
        ],
        "paths": [
            [each.path, each.size, numbers(each.references), each.deriver, each.signers, each.hash]
            for each in contents.paths
        ],
        "layers": [[each.digest, each.size, numbers(each.paths)] for each in contents.layers],
        "built": numbers(contents.built),
        "substituted": [[number[path], origin] for path, origin in contents.substituted.items()],
        "programs": contents.programs,
        "tools": contents.tools,
    }
    text = json.dumps(document, separators=(",", ":"))
    return b64encode(zlib.compress(text.encode("ascii"))).decode("ascii")


def unpack_contents(packed: str) -> Contents:
    """Read what :func:`pack_contents` gave.

    :raises ValueError: if it is something else.
    """
    try:
        text = zlib.decompressobj().decompress(b64decode(packed, validate=True), _MOST)
        return _read(json.loads(text))
    except (zlib.error, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no contents: {error!r}") from error


_PLAIN = ("name", "tag", "system", "source", "revision", "made", "address")


def _read(document: dict[str, Any]) -> Contents:
    path = [each[0] for each in document["paths"]]

    def paths(numbers: list[int]) -> tuple[str, ...]:
        return tuple([path[number] for number in numbers])

    return Contents(
        **{field: document[field] for field in _PLAIN},
        packages=tuple(
            PackageFacts(package, paths(outputs), *map(_as_written, rest))
            for package, outputs, *rest in document["packages"]
        ),
        paths=tuple(
            PathFacts(own, size, paths(references), deriver, tuple(signers), nar)
            for own, size, references, deriver, signers, nar in document["paths"]
        ),
        layers=tuple(
            LayerFacts(digest, size, paths(within)) for digest, size, within in document["layers"]
        ),
        built=paths(document["built"]),
        substituted={path[number]: origin for number, origin in document["substituted"]},
        programs=tuple(document["programs"]),
        tools=tuple(document["tools"]),
    )


def _as_written(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
