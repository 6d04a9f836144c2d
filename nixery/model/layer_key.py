"""The layer key: it stands for the bytes of a layer."""

import hashlib
from collections.abc import Iterable

from nixery.model.source import canonical_json


def layer_key(packer: str, paths: Iterable[str] = (), entries: Iterable[str] = ()) -> str:
    """The key of a layer, as 64 hexadecimal digits: the sha256 of the canonical JSON of an object
    with all of these.

    :param packer: the packer's version.
    :param paths: the store paths in the layer, in any order.
    :param entries: what it holds besides, as the canonical JSON of lists that follow each other:
        together they may be too long to be one text.
    """
    digest, between = hashlib.sha256(b'{"entries":['), ""
    for some in entries:
        digest.update(f"{between}{some[1:-1]}".encode("ascii"))
        between = ","
    rest = canonical_json({"packer": packer, "paths": sorted(paths)})
    digest.update(f"],{rest[1:]}".encode("ascii"))
    return digest.hexdigest()
