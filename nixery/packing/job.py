"""The daemon's jobs for its packing processes, and their answers."""

from collections.abc import Sequence
from typing import Any

import attrs

from nixery.model.build_errors import PackingFailed
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.packing.tar import Entry


@attrs.frozen
class PackJob:
    """A layer to pack.

    :param sink: absolute path of the file to write: created if there is none, written from start
        to end, not synced; it may be a named pipe. Its contents are worthless after a failure.
    :param compression: one of :data:`nixery.packing.codecs.COMPRESSIONS`.
    :param paths: store paths, as pairs of the path in the image and its place on this machine.
    :param entries: made-up entries.
    """

    sink: str
    compression: str
    paths: Sequence[tuple[str, str]] = ()
    entries: Sequence[Entry] = ()

    def to_json(self) -> dict[str, object]:
        """The job for :mod:`nixery.packing.worker`, as values that JSON can hold."""
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
    :param diff_id: the digest of the tar stream.
    :param size: of the compressed bytes.
    :param uncompressed: bytes of the tar stream.
    :param replaced: number of blocks that had to be compressed in a second way.
    """

    digest: Digest
    diff_id: Digest
    size: int
    uncompressed: int
    replaced: int = 0


def read_answer(number: int, answer: Any) -> PackedLayer | NixeryError:
    """A packing process's answer to the job of that number.

    :return: the layer, or the error with which the job failed.
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
    if error["kind"] == "io":
        return StorageUnavailable(f"{error['message']} ({error['path']})")
    return PackingFailed(str(error["path"]), str(error["message"]))
