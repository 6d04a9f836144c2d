"""The key of an image, or index: what is known before Nix is asked, and stands for the manifest."""

from collections.abc import Iterable

import attrs

from nixery.model.identity import Naming
from nixery.model.image import Image
from nixery.model.source import PinnedSource, canonical_sha256

FORMAT_VERSION = 4
"""Raised whenever the same packages would give other bytes than before, or other keys."""


def image_key(image: Image, pinned: PinnedSource, budget: int, packer: str, naming: Naming) -> str:
    """The key under which an image's manifest is remembered.

    It differs whenever the manifest might.

    :param budget: the most layers an image may have.
    :param packer: the packer's version: what the bytes of a layer depend on besides its files.
    :return: 64 hexadecimal digits.
    """
    return canonical_sha256(
        {
            "packages": image.packages,
            "optional": image.optional,
            "groups": image.groups,
            "user": image.user,
            **({"prefixed": True} if image.prefixed else {}),
            "system": image.system,
            "source": pinned.pin.identity(),
            "configuration": attrs.asdict(pinned.configuration) if pinned.configuration else None,
            "budget": budget,
            "packer": packer,
            "address": naming.address(pinned),
            "created": naming.created,
            "format": FORMAT_VERSION,
        }
    )


def index_key(keys: Iterable[str], media_type: str) -> str:
    """The key under which an index is remembered, as an image's manifest is under its own.

    :param keys: the image keys of all platforms, in any order.
    :return: 64 hexadecimal digits.
    """
    return canonical_sha256({"index": sorted(keys), "type": media_type})
