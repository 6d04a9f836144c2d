"""The daemon's jobs for its packing processes, and their answers."""

import pickle
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import attrs

from nixery.model.build_errors import PackingFailed
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.events import Collided, Emit
from nixery.model.execution import Execution
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.packing.furnishing import REFUSALS, FurnishRequest

T_co = TypeVar("T_co", covariant=True)


class Job(Protocol[T_co]):
    """Work for a packing process."""

    def to_json(self) -> dict[str, object]:
        """The job for :mod:`nixery.packing.worker`, as values that JSON can hold."""

    def read(self, answer: Any) -> T_co | NixeryError | None:
        """Read an answer to the job.

        :return: the result, or the error with which the job failed; None if more answers follow.
        :raises ValueError, LookupError, TypeError, DigestInvalid: if it is no answer to the job.
        """


@attrs.frozen
class PackJob:
    """A layer to pack.

    :param sink: absolute path of the file to write: created if there is none, written from start
        to end, not synced; it may be a named pipe. Its contents are worthless after a failure.
    :param compression: one of :data:`nixery.packing.codecs.COMPRESSIONS`.
    :param paths: store paths, as pairs of the path in the image and its place on this machine.
    :param entries: absolute path of a file with made-up entries, if there are any.
    """

    sink: str
    compression: str
    paths: Sequence[tuple[str, str]] = ()
    entries: str | None = None

    def to_json(self) -> dict[str, object]:
        return attrs.asdict(self, recurse=False)

    def read(self, answer: Any) -> "PackedLayer | NixeryError":
        if "error" in answer:
            return _read_error(answer["error"], "the storage")
        digests = Digest.parse(answer["digest"]), Digest.parse(answer["diff_id"])
        numbers = (int(answer[name]) for name in ("size", "uncompressed", "replaced"))
        return PackedLayer(*digests, *numbers)


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


@attrs.frozen
class FurnishJob:
    """A root file system to make.

    :param sink: absolute path of the file to write its entries to, for :class:`PackJob`; as there.
    :param emit: is told of the files that packages could not have in it.
    """

    sink: str
    request: FurnishRequest
    emit: Emit

    def to_json(self) -> dict[str, object]:
        return {"sink": self.sink, "furnish": b2a_base64(pickle.dumps(self.request)).decode()}

    def read(self, answer: Any) -> "FurnishedRoot | NixeryError | None":
        if "error" in answer:
            return _read_error(answer["error"], "the disk of the state folder")
        if "collided" in answer:
            for each in answer["collided"]:
                self.emit(Collided(*each))
            return None
        return FurnishedRoot(answer["key"], answer["tools"], Execution(**answer["execution"]))


@attrs.frozen
class FurnishedRoot:
    """A root file system that was made.

    :param key: of the layer with it.
    :param tools: those of a shell that it has.
    :param execution: how containers of its image are run.
    """

    key: str
    tools: Sequence[str]
    execution: Execution


def _read_error(error: Any, disk: str) -> NixeryError:
    """
    :param disk: where the job's sink is.
    """
    if error["kind"] in REFUSALS:
        return REFUSALS[error["kind"]](**error["facts"])
    if error["kind"] == "storage_full":
        return StorageFull(disk)
    if error["kind"] == "io":
        return StorageUnavailable(f"{error['message']} ({error['path']})")
    return PackingFailed(str(error["path"]), str(error["message"]))
