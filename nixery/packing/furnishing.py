"""The making of an image's root file system, in a packing process.

A wide package has hundreds of thousands of files: the daemon sees neither them nor their entries,
which go to a file that the layer is packed from.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import attrs

from nixery.model.build_errors import TooManyFiles
from nixery.model.closure import Realisation
from nixery.model.execution import Execution, furnish
from nixery.model.identity import Identity
from nixery.model.image import Image
from nixery.model.inner_store import has_nix, store_entries
from nixery.model.layer_key import layer_key
from nixery.model.package_errors import EvaluationFailed
from nixery.model.registration import ValidPath
from nixery.model.rootfs import USER, RootFs
from nixery.model.source import canonical_json
from nixery.model.tree import Data, File, Folder, Link, Output
from nixery.model.tree import Entry as TreeEntry
from nixery.packing.libraries import find_c_library, find_data
from nixery.packing.listing import MOST, list_output, weight
from nixery.packing.tar import Entry

REFUSALS = {each.__name__: each for each in (EvaluationFailed, TooManyFiles)}
"""Errors that are the packages' own, by the names that answers have for them."""
_TOOLS = ("bash", "sh", "sleep")
"""Programs that are of use in every image that has them."""
_AT_ONCE = 1000  # entries of a line
_COLLISIONS = 100  # of an answer


@attrs.frozen
class FurnishRequest:
    """A root file system to make. Its methods block, and hold up a thread with computing.

    :param identity: what the image says of itself.
    :param registered: the realisation's store paths, if the image has Nix.
    :param store: what stands before store paths on this machine.
    :param packer: the packer's version.
    :param beside: store paths that are to be in the same layer.
    """

    image: Image
    identity: Identity
    realisation: Realisation
    registered: Sequence[ValidPath] | None
    store: str
    packer: str
    beside: Sequence[str] = ()

    def answers(self, write: Callable[[bytes], object]) -> Iterator[dict[str, Any]]:
        """Make it.

        :param write: takes its entries: lines for :func:`nixery.packing.worker.read_entries`.
        :return: what answers have besides the job's number; the last one ends the job.
        """
        try:
            rootfs, execution = self.furnish()
        except OSError as error:
            facts = {"path": str(error.filename), "message": error.strerror or str(error)}
            yield {"error": {"kind": "unreadable", **facts}}
        except tuple(REFUSALS.values()) as error:
            facts = attrs.asdict(error)
            yield {"error": {"kind": type(error).__name__, "facts": facts}}
        else:
            key = layer_key(self.packer, self.beside, write_entries(rootfs.entries, write))
            collisions = [[each.name, each.kept, each.lost] for each in rootfs.collisions]
            for start in range(0, len(collisions), _COLLISIONS):
                yield {"collided": collisions[start : start + _COLLISIONS]}
            tools = [tool for tool in _TOOLS if f"bin/{tool}" in rootfs.entries]
            yield {"key": key, "tools": tools, "execution": attrs.asdict(execution)}

    def furnish(self) -> tuple[RootFs, Execution]:
        """The root file system, and how containers of the image are run.

        :raises EvaluationFailed: if a package's data for images is invalid.
        :raises OSError: if a file can't be read.
        :raises TooManyFiles: if there is too much to list.
        """
        realisation, graph = self.realisation, self.realisation.graph
        outputs = list_outputs(realisation, self._physical)
        c_library = find_c_library(graph, self.image.system, self._physical)
        data = find_data(graph, self._physical)
        own = None
        if self.registered is not None and has_nix(outputs):
            # SQLite takes time and memory, and few images have Nix.
            from nixery.packing.database import make_database

            owner = USER if self.image.user else 0
            own = store_entries(make_database(self.registered), realisation.paths, owner)
        return furnish(self.image, realisation, outputs, self.identity, c_library, data, own)

    def _physical(self, path: str) -> str:
        return self.store + path


def list_outputs(
    realisation: Realisation, physical: Callable[[str], str], most: int = MOST
) -> list[Output]:
    """The listings of all outputs of an image's packages. Blocks.

    :param physical: gives the place of a store path's files on this machine.
    :param most: bytes of memory for all listings, as by :func:`weight`.
    :raises OSError: if a file can't be read.
    :raises TooManyFiles: if there is too much to list.
    """
    # Two names of one output are one package: the first of them.
    packages: dict[str, str] = {}
    for root in realisation.roots:
        for path in root.paths:
            packages.setdefault(path, root.package)
    outputs, left = [], most
    for path, package in packages.items():
        listing = list_output(path, physical, left)
        left -= weight(listing)
        outputs.append(Output(package, path, listing))
    return outputs


def write_entries(
    entries: Mapping[str, TreeEntry], write: Callable[[bytes], object]
) -> Iterator[str]:
    """Write entries for :func:`nixery.packing.worker.read_entries`, line by line.

    :return: the lines, each the canonical JSON of a list, as the layer key takes them.
    """
    rest = iter(entries.items())
    while some := [_tar_entry(*each).to_json() for each in islice(rest, _AT_ONCE)]:
        line = canonical_json(some)
        write(f"{line}\n".encode("ascii"))
        yield line


def _tar_entry(name: str, entry: TreeEntry) -> Entry:
    match entry:
        case Folder(mode=mode, owner=owner):
            return Entry(name, "dir", mode, owner=owner)
        case Link(target=target):
            return Entry(name, "link", target=target)
        case File(content=content, mode=mode):
            return Entry(name, "file", mode, content.encode("utf-8"))
        case Data(content=data, mode=mode, owner=owner):
            return Entry(name, "file", mode, data, owner=owner)
