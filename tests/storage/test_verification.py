# mypy: disable-error-code="import-untyped,untyped-decorator"
"""How files are verified: once for all who ask, and without harm to what takes their place."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from nixery.model.digest import Digest
from nixery.model.service_errors import StorageFull, StorageUnavailable
from nixery.storage.filesystem.files import (
    FileIdentity,
    drop,
    identify,
    settle,
    storage_faults,
)
from nixery.storage.filesystem.verification import BlobVerifier, Verdict, verify_file

GOOD = b"good bytes"
DIGEST = Digest.of(GOOD)
IDENTITY = FileIdentity(0o100000, inode=1, size=len(GOOD), modified=2, changed=3)


class Reader:
    """Reads a blob when the test says so."""

    def __init__(self) -> None:
        self.reading: list[tuple[Digest, Deferred[Verdict]]] = []

    def __call__(self, digest: Digest) -> Deferred[Verdict]:
        self.reading.append((digest, Deferred()))
        return self.reading[-1][1]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def verifier(reader: Reader) -> BlobVerifier:
    return BlobVerifier(Clock().seconds, reader, remembered=3, at_once=2)


def _results(deferreds: list[Deferred[FileIdentity | None]]) -> list[object]:
    """What Deferreds have come to; failures as their exceptions."""
    results: list[object] = []
    for deferred in deferreds:
        deferred.addErrback(lambda failure: failure.value)
        deferred.addCallback(results.append)
    return results


def test_read_once(reader: Reader, verifier: BlobVerifier) -> None:
    """A blob is read once for all who ask meanwhile, and is known then."""
    asking = [verifier.verify(DIGEST) for _ in range(5)]
    assert len(reader.reading) == 1
    assert verifier.known(DIGEST) is None
    reader.reading[0][1].callback(Verdict(IDENTITY))
    assert _results(asking) == [IDENTITY] * 5
    assert verifier.known(DIGEST) == IDENTITY
    verifier.verify(DIGEST)
    assert len(reader.reading) == 2


def test_all_leave(reader: Reader, verifier: BlobVerifier) -> None:
    """The reading goes on when all have left, and whoever comes then joins it."""
    asking = [verifier.verify(DIGEST) for _ in range(2)]
    for left in asking:
        left.cancel()
    assert [type(result) for result in _results(asking)] == [CancelledError] * 2
    late = verifier.verify(DIGEST)
    assert len(reader.reading) == 1
    reader.reading[0][1].callback(Verdict(IDENTITY))
    assert _results([late]) == [IDENTITY]


def test_one_cancels_another(reader: Reader, verifier: BlobVerifier) -> None:
    """Whoever is answered may cancel another's wait at that moment."""
    first, second, third = asking = [verifier.verify(DIGEST) for _ in range(3)]

    def answered(found: FileIdentity | None) -> FileIdentity | None:
        second.cancel()
        return found

    first.addCallback(answered)
    reader.reading[0][1].callback(Verdict(IDENTITY))
    results = _results(asking)
    assert results[::2] == [IDENTITY] * 2
    assert isinstance(results[1], CancelledError)
    assert third.called


def test_fault_reaches_all(reader: Reader, verifier: BlobVerifier) -> None:
    """A fault reaches all who wait, and the next who asks has the blob read again."""
    asking = [verifier.verify(DIGEST) for _ in range(3)]
    fault = StorageUnavailable("it is a test")
    reader.reading[0][1].errback(fault)
    assert _results(asking) == [fault] * 3
    verifier.verify(DIGEST)
    assert len(reader.reading) == 2


def test_few_at_once(reader: Reader, verifier: BlobVerifier) -> None:
    """No more blobs are read at a time than was said; the others follow."""
    asking = [verifier.verify(Digest.of(b"%d" % number)) for number in range(5)]
    assert len(reader.reading) == 2
    for number in range(5):
        reader.reading[number][1].callback(Verdict(None))
    assert _results(asking) == [None] * 5


def test_memory_is_bounded(verifier: BlobVerifier) -> None:
    """Those blobs are remembered that were asked for last."""
    digests = [Digest.of(b"%d" % number) for number in range(5)]
    for digest in digests[:3]:
        verifier.remember(digest, IDENTITY)
    verifier.known(digests[0])
    for digest in digests[3:]:
        verifier.remember(digest, IDENTITY)
    assert [verifier.known(digest) is not None for digest in digests] == [1, 0, 0, 1, 1]


# --- files --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / DIGEST.hex


def _replacing(path: Path, content: bytes, times: int) -> Callable[[], str]:
    """Names to move things aside to; meanwhile somebody puts another file in the place."""
    count = 0

    def name() -> str:
        nonlocal count
        count += 1
        if count <= times:
            path.with_suffix(".new").write_bytes(content + bytes(count) * (content != GOOD))
            os.replace(path.with_suffix(".new"), path)
        return f"{path}.aside{count}"

    return name


def test_mended_meanwhile(path: Path) -> None:
    """A good file that takes a damaged one's place in the last moment is not dropped."""
    path.write_bytes(b"bad")
    verdict = verify_file(str(path), DIGEST, _replacing(path, GOOD, times=1))
    assert verdict.identity == identify(str(path))
    assert path.read_bytes() == GOOD
    assert os.listdir(path.parent) == [path.name]


def test_replaced_meanwhile(path: Path) -> None:
    """A damaged file that takes another's place is dropped as well."""
    path.write_bytes(b"bad")
    verdict = verify_file(str(path), DIGEST, _replacing(path, b"also bad", times=2))
    assert verdict.identity is None
    assert "holds 10 bytes" in verdict.dropped
    assert os.listdir(path.parent) == []


def test_never_the_same(path: Path) -> None:
    """A file that is another one each time is given up, rather than looked at for ever."""
    path.write_bytes(b"bad")
    with pytest.raises(StorageUnavailable, match=f"{path} changes"):
        verify_file(str(path), DIGEST, _replacing(path, b"bad", times=99))


def test_dropped_by_another(path: Path) -> None:
    """Of two who drop a file at once, the slower one finds nothing to do."""
    path.write_bytes(b"bad")
    found = identify(str(path))
    assert found is not None
    for _ in range(2):
        drop(str(path), found, f"{path}.aside")
    assert os.listdir(path.parent) == []


def test_settled(path: Path) -> None:
    """A file counts as looked at only when the file system's clock has moved on since its last
    change, and the wait for that ends, even if that was in the future."""
    for number in range(20):
        path.write_bytes(b"%d" % number)
        identity = FileIdentity.of(path.stat())
        settle(identity)
        assert time.clock_gettime_ns(5) > identity.changed  # CLOCK_REALTIME_COARSE
    settle(attrs.evolve(identity, changed=identity.changed + 10**12))


@given(content=st.binary(max_size=100), number=st.integers(0, 99))
def test_any_change(tmp_path_factory: pytest.TempPathFactory, content: bytes, number: int) -> None:
    """Only the very bytes of a digest pass, whatever else a file holds."""
    path = tmp_path_factory.mktemp("blob") / DIGEST.hex
    path.write_bytes(content)
    changed = bytes([number]) + content[1:]
    for digest in (Digest.of(changed), Digest.of(content)):
        path.write_bytes(content)
        verdict = verify_file(str(path), digest, lambda: f"{path}.aside")
        assert (verdict.identity is not None) == (digest == Digest.of(content))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EIO, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable),
        (errno.EROFS, StorageUnavailable),
    ],
)
def test_faults(number: int, expected: type[Exception]) -> None:
    """What the system says is told apart: no room, or a storage that fails, and where and why."""

    def fail() -> None:
        with storage_faults("/storage"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(expected) as raised:
        fail()
    if expected is StorageUnavailable:
        assert f"{os.strerror(number)} (/storage)" in str(raised.value)
