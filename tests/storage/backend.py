# mypy: disable-error-code="import-untyped,untyped-decorator"
"""What the storage contract needs of a backend, and what its tests are written with."""

from collections.abc import Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from nixery.interfaces import IStorage, IUpload, Location
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, Descriptor
from nixery.model.request_errors import BlobUnknown

T = TypeVar("T")

LIMIT = 1 << 24
CONTENT = b"what a blob may hold " * 100
KEY = "builds/" + 32 * "0a"
NO_KEYS = [
    *("", "builds/", "/builds/0a", "builds/../layers/0a", "builds/0A", "builds/0a\n", "staging/0a"),
    *("builds/0a/0b", "layers/0a", "manifests/..", "builds/" + 999 * "0"),
]


class Backend(Protocol):
    """What the contract needs to know of a backend: one place, and what can befall it."""

    async def open(self) -> IStorage:
        """A started storage: another one on the same place each time, if that can be."""

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        """Behind the storage's back, have other bytes where a blob's were, or none."""

    def full(self) -> AbstractContextManager[None]:
        """A context in which the place has no room."""

    async def load(self, location: Location) -> bytes:
        """What a client gets there."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine, in a fixture."""
    result: T = pytest_twisted.blockon(Deferred.fromCoroutine(work))
    return result


async def write(upload: IUpload, content: bytes) -> None:
    """Write to an upload's sink as a packer would: not in the reactor's thread."""
    await deferToThread(Path(upload.sink).write_bytes, content)


async def store(storage: IStorage, content: bytes) -> Digest:
    """Store a blob by an upload."""
    upload = await storage.receive()
    await write(upload, content)
    await upload.commit(Digest.of(content), len(content))
    return Digest.of(content)


async def exercise(storage: IStorage, large: bytes) -> Location:
    """All that a storage is used for, each thing with the result that it should have.

    :param large: a blob for an upload.
    :return: where that is.
    """
    await storage.probe()
    await storage.write_record(KEY, b"record")
    assert await storage.read_record(KEY) == b"record"
    digest = await storage.write_blob(CONTENT)
    assert await storage.read_blob(digest, LIMIT) == CONTENT
    assert await store(storage, large) == Digest.of(large)
    assert await storage.missing_blobs([descriptor(large), descriptor(b"-")]) == [Digest.of(b"-")]
    lease = await storage.lease("0a")
    await lease.release()
    await storage.delete_record(KEY)
    assert await storage.read_record(KEY) is None
    return await storage.locate(Digest.of(large))


async def assert_unknown(storage: IStorage, digest: Digest) -> None:
    """Neither way leads to a blob."""
    with pytest.raises(BlobUnknown, match=digest.hex):
        await storage.locate(digest)
    with pytest.raises(BlobUnknown, match=digest.hex):
        await storage.read_blob(digest, LIMIT)


def descriptor(content: bytes) -> Descriptor:
    return Descriptor(CONFIG_TYPE, Digest.of(content), len(content))
