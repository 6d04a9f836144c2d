"""What an image's config tells container engines of running it."""

from collections.abc import Mapping, Sequence

import attrs

from nixery.model.closure import Root
from nixery.model.image import Image
from nixery.model.tree import Kind, Output


@attrs.frozen
class Execution:
    """How a container is run if nothing else is asked for.

    :param environment: environment variables.
    :param command: program and arguments; none where no program suggests itself.
    """

    environment: Mapping[str, str]
    command: Sequence[str] = ()


def default_command(
    image: Image, roots: Sequence[Root], outputs: Sequence[Output]
) -> tuple[str, ...]:
    """The command of an image: bash for ``shell``, the program of a package that is named alone.

    That program is the one that the package says is its main one, else its only one.

    :param roots: the packages of the image.
    :param outputs: what is in them.
    """
    if image.shell:
        return ("bash",)
    if len(image.packages) != 1:
        return ()
    [package] = image.packages
    root = next((root for root in roots if root.package == package), None)
    listing = next((o.listing for o in outputs if root is not None and o.path == root.path), {})
    programs = [
        name.removeprefix("bin/")
        for name, item in listing.items()
        if name.startswith("bin/") and name.count("/") == 1 and item.kind is Kind.OTHER
    ]
    if root is not None and root.program in programs:
        return (root.program,)
    # Those with a dot in front are the real ones behind wrappers.
    shown = [name for name in programs if not name.startswith(".")]
    return tuple(shown) if len(shown) == 1 else ()
