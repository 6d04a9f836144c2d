"""The last package index, in a file that is read after a restart."""

import gzip
import json
import os
import re
import uuid
import zlib
from collections.abc import Sequence

import attrs

from nixery.model.image import AMD64
from nixery.model.source import PinnedSource, canonical_sha256
from nixery.whole_file import whole_file

_FORMAT = 2
_FILE = "index.gz"
_LEFT = re.compile(r"index\.gz\.[0-9a-f]{32}\.new|tmp[a-z0-9_]{8}")
"""Files of processes that were killed, with names of this version and of earlier ones."""
_FAST = 1  # of gzip's levels


@attrs.frozen
class KeptIndex:
    """An index with what it is of.

    :param key: see :func:`index_key`.
    :param source: the package source, as it is shown.
    :param revision: of the source, as it is shown.
    :param index: of the packages, dumped.
    :param skipped: attributes that can't be evaluated.
    :param whole: whether the end of the set was reached.
    """

    key: str
    source: str
    revision: str
    index: bytes = attrs.field(repr=False)
    skipped: Sequence[str] = ()
    whole: bool = True


def index_key(pinned: PinnedSource, system: str = AMD64) -> str:
    """Identifies the index of one revision with one configuration.

    :param system: that packages are for.
    """
    configuration = attrs.asdict(pinned.configuration) if pinned.configuration else None
    return canonical_sha256([_FORMAT, system, pinned.pin.identity(), configuration])


def write_index(folder: str, kept_index: KeptIndex) -> None:
    """Write an index over the one that was kept before.

    :raises OSError: if it can't be written; the one before is still there then.
    """
    head = {
        "format": _FORMAT,
        "key": kept_index.key,
        "source": kept_index.source,
        "revision": kept_index.revision,
        "size": len(kept_index.index),
        "skipped": list(kept_index.skipped),
        "whole": kept_index.whole,
    }
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if _LEFT.fullmatch(name):
            os.unlink(os.path.join(folder, name))
    path = os.path.join(folder, _FILE)
    with (
        whole_file(path, beside=f"{path}.{uuid.uuid4().hex}.new") as file,
        gzip.open(file, "wb", _FAST) as packed,
    ):
        packed.write(json.dumps(head).encode("ascii") + b"\n")
        packed.write(kept_index.index)


def read_index(folder: str) -> KeptIndex | None:
    """Read the index that is kept, if there is one.

    :raises OSError: if it can't be read.
    :raises ValueError: if it is damaged, or of another format.
    """
    path = os.path.join(folder, _FILE)
    if not os.path.exists(path):
        return None
    try:
        with gzip.open(path, "rb") as packed:
            head = json.loads(packed.readline())
            index = packed.read()
        if head["format"] != _FORMAT or head["size"] != len(index):
            raise ValueError(f"{path} has another format, or was truncated")
        key, source, revision = (str(head[name]) for name in ("key", "source", "revision"))
        skipped = tuple(str(name) for name in head["skipped"])
        return KeptIndex(key, source, revision, index, skipped, head["whole"] is True)
    except (EOFError, zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error
