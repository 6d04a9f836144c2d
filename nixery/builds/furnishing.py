"""What is in an image's root file system, found out from its packages' files: walks over files,
not for the reactor's thread."""

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
"""Says where a store path's files lie on this machine."""


def list_outputs(realisation: Realisation, physical: Physical, most: int = MOST) -> list[Output]:
    """What is in the outputs of an image's packages.

    :param most: what the listings may take together, as :func:`weight` has it.
    :raises OSError: if something can't be read.
    :raises TooManyFiles: if there is too much to be listed.
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
    """The root file system, and how a container of it is run.

    :param identity: what the image says of itself.
    :param registered: the realisation's store paths, if the image has Nix.
    :raises EvaluationFailed: if a package says of images what can't be.
    :raises OSError: if something can't be read.
    """
    graph = realisation.graph
    c_library = find_c_library(graph, image.system, physical)
    data = find_data(graph, physical)
    own = None
    if registered is not None:
        owner = USER if image.user else 0
        own = store_entries(make_database(registered), realisation.paths, owner)
    return furnish(image, realisation, outputs, identity, c_library, data, own)
