"""What the daemon asks of its packing processes, and what they answer."""

from collections.abc import Sequence
from typing import Any

import attrs

from nixery.model.digest import Digest
from nixery.model.errors import NixeryError, PackingFailed, StorageFull, StorageUnavailable
from nixery.packing.tar import Entry


@attrs.frozen
class PackJob:
    """What a layer is to be made of, and where it goes.

    :param sink: absolute path of the file to write: made if it is not there, written from start
        to end, not synced; a named pipe will do. Worthless after a failure.
    :param compression: one of :data:`nixery.packing.codecs.COMPRESSIONS`.
    :param paths: store paths, as pairs of the path in the image and where it is on this machine.
    :param entries: what the layer holds besides, made up.
    """

    sink: str
    compression: str
    paths: Sequence[tuple[str, str]] = ()
    entries: Sequence[Entry] = ()

    def to_json(self) -> dict[str, object]:
        """The job as values that JSON can hold, as :mod:`nixery.packing.worker` reads them."""
        return {
            "sink": self.sink,
            "compression": self.compression,
            "paths": list(self.paths),
            "entries": [entry.to_json() for entry in self.entries],
        }


@attrs.frozen
class PackedLayer:
    """A layer that was packed.

    :param digest: of the compressed bytes in the sink.
    :param diff_id: the digest of the tar stream in it.
    :param size: of the compressed bytes.
    :param uncompressed: the size of the tar stream in bytes.
    :param replaced: blocks of it that had to be compressed in a second way.
    """

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed: int
    replaced: int = 0


def read_answer(number: int, answer: Any) -> PackedLayer | NixeryError:
    """What a child said of the job of that number.

    :returns: the layer, or the error with which the job failed.
    :raises ValueError, LookupError, TypeError, DigestInvalid: if it is no answer to the job.
    """
    if answer["id"] != number:
        raise ValueError("the answer is to another job")
    if "error" not in answer:
        digests = Digest.parse(answer["digest"]), Digest.parse(answer["diff_id"])
        numbers = (int(answer[name]) for name in ("size", "uncompressed", "replaced"))
        return PackedLayer(*digests, *numbers)
    error = answer["error"]
    if error["kind"] == "storage_full":
        return StorageFull()
    if error["kind"] == "io":  # what is packed can't be written: nothing is wrong with it
        return StorageUnavailable(f"{error['message']} ({error['path']})")
    return PackingFailed(str(error["path"]), str(error["message"]))
