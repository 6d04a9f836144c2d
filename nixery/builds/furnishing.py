"""An image's root file system, found out from its packages' files. These functions block."""

from collections.abc import Callable, Sequence

from nixery.model.closure import Realisation
from nixery.model.execution import Execution, furnish
from nixery.model.identity import Identity
from nixery.model.image import Image
from nixery.model.inner_store import store_entries
from nixery.model.registration import ValidPath
from nixery.model.rootfs import USER, RootFs
from nixery.model.tree import Output
from nixery.packing.database import make_database
from nixery.packing.libraries import find_c_library, find_data
from nixery.packing.listing import MOST, list_output, weight

Physical = Callable[[str], str]
"""Gives the place of a store path's files on this machine."""


def list_outputs(realisation: Realisation, physical: Physical, most: int = MOST) -> list[Output]:
    """The listings of all outputs of an image's packages.

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


def furnish_image(
    image: Image,
    identity: Identity,
    realisation: Realisation,
    outputs: Sequence[Output],
    registered: Sequence[ValidPath] | None,
    physical: Physical,
) -> tuple[RootFs, Execution]:
    """An image's root file system, and how its containers are run.

    :param registered: the realisation's store paths, if the image has Nix.
    :raises EvaluationFailed: if a package's data for images is invalid.
    :raises OSError: if a file can't be read.
    """
    graph = realisation.graph
    c_library = find_c_library(graph, image.system, physical)
    data = find_data(graph, physical)
    own = None
    if registered is not None:
        owner = USER if image.user else 0
        own = store_entries(make_database(registered), realisation.paths, owner)
    return furnish(image, realisation, outputs, identity, c_library, data, own)
