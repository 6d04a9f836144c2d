"""Blobs are verified against their digests before they are known by them."""

import contextlib
import hashlib
import os
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore

from nixery.coalesce import Coalescer
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageUnavailable
from nixery.recent import Recent
from nixery.storage.filesystem.files import (
    UNREADABLE,
    FileIdentity,
    drop,
    identify,
    open_file,
    settle,
)

_PIECE = 1024 * 1024  # bytes
_ATTEMPTS = 5


@attrs.frozen
class Verdict:
    """The outcome of verifying a blob.

    :param identity: the file that holds it; none if there is none, or none any more.
    :param dropped: what was wrong with a file that was dropped, to be read after its path; empty
        if none was.
    """

    identity: FileIdentity | None
    dropped: str = ""


def verify_file(
    path: str,
    digest: Digest,
    aside: Callable[[], str],
    on_read: Callable[[int], None] = lambda count: None,
) -> Verdict:
    """Read a blob's file, and drop it if it holds something else. Blocks: for threads.

    :param aside: gives a new path on the same file system.
    :param on_read: is told of every piece that was read, in bytes.
    :raises StorageUnavailable: if it changes all the time.
    """
    dropped = ""
    for _ in range(_ATTEMPTS):
        found = identify(path)
        if found is None:
            return Verdict(None, dropped)
        damage = _damage(path, found, digest, on_read)
        if identify(path) != found:
            continue
        if not damage:
            return Verdict(found, dropped)
        dropped = damage
        drop(path, found, aside())
    raise StorageUnavailable(f"{path} changes while it is read")


def _damage(path: str, found: FileIdentity, digest: Digest, on_read: Callable[[int], None]) -> str:
    """The fault of a blob's file; empty if it has none."""
    if not found.is_file:
        return "is not a plain file"
    settle(found)
    sha256, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    try:
        with open(open_file(path), "rb", buffering=0) as file:
            while count := file.readinto(piece):
                sha256.update(piece[:count])
                on_read(count)
            with contextlib.suppress(OSError):  # of a file system that can only be read
                os.fsync(file)  # what was read may not be on the disk yet
    except OSError as error:
        if error.errno in UNREADABLE:
            return f"can't be read ({error.strerror})"
        raise
    actual = sha256.hexdigest()
    return "" if actual == digest.hex else f"holds {found.size} bytes of sha256:{actual}"


class BlobVerifier:
    """Remembers which files were verified, and has each verified once, however many ask.

    :ivar verified: these files, by their digests.
    :ivar count: how often one was verified.
    :ivar earlier: gives the file that an earlier process has verified.
    """

    def __init__(
        self,
        now: Callable[[], float],
        verify: Callable[[Digest], Deferred[Verdict]],
        remembered: int = 10_000,
        at_once: int = 4,
    ) -> None:
        """
        :param now: seconds, from any moment on.
        :param verify: reads a blob in a thread.
        :param remembered: how many blobs to remember, those that were asked for last.
        :param at_once: how many blobs to read at a time, so that threads are left for the rest.
        """
        self.count = 0
        self._verify = verify
        self.earlier: Callable[[Digest], FileIdentity | None] = lambda digest: None
        self._turns = DeferredSemaphore(at_once)
        self.verified: Recent[Digest, FileIdentity] = Recent(now, remembered)
        self._verifying: Coalescer[Digest, FileIdentity | None] = Coalescer()

    def known(self, digest: Digest) -> FileIdentity | None:
        """The file that was verified to hold a blob: no other one in its place is trusted."""
        known = self.verified.get(digest)
        if known is None and (known := self.earlier(digest)) is not None:
            self.verified.put(digest, known)
        return known

    def remember(self, digest: Digest, identity: FileIdentity) -> None:
        """Trust a file to hold a blob from now on."""
        self.count += 1
        self.verified.put(digest, identity)

    def verify(self, digest: Digest) -> Deferred[FileIdentity | None]:
        """Have a blob verified.

        :return: the file that holds it, if one does; the caller's own: cancelling it stops neither
            the reading nor anybody else.
        """

        async def verify() -> FileIdentity | None:
            verdict: Verdict = await self._turns.run(self._verify, digest)
            if verdict.identity is not None:
                self.remember(digest, verdict.identity)
            return verdict.identity

        return self._verifying.join(digest, verify)
