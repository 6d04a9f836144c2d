"""Blobs are verified against their digests before they are known by them."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from nixery.model.digest import Digest
from nixery.model.errors import StorageUnavailable
from nixery.storage.files import UNREADABLE, Identity, drop, identify, open_file, settle

_PIECE = 1024 * 1024  # bytes
_ATTEMPTS = 5


@attrs.frozen
class Verdict:
    """What was found out about a blob.

    :param identity: the file that holds it; none if there is none, or none any more.
    :param dropped: what was wrong with a file that was dropped, to be read after its path; empty
        if none was.
    """

    identity: Identity | None
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


def _damage(path: str, found: Identity, digest: Digest, on_read: Callable[[int], None]) -> str:
    """What is wrong with a blob's file; empty if nothing is."""
    if not found.is_file:
        return "is no plain file"
    settle(found)
    try:
        actual = _sha256(path, on_read)
    except OSError as error:
        if error.errno in UNREADABLE:
            return f"can't be read ({error.strerror})"
        raise
    return "" if actual == digest.hex else f"holds {found.size} bytes of sha256:{actual}"


def _sha256(path: str, on_read: Callable[[int], None]) -> str:
    sha256 = hashlib.sha256()
    piece = memoryview(bytearray(_PIECE))
    with open(open_file(path), "rb", buffering=0) as file:
        while count := file.readinto(piece):
            sha256.update(piece[:count])
            on_read(count)
    return sha256.hexdigest()


class Verifier:
    """Remembers which files were verified, and has each verified once, however many ask."""

    def __init__(
        self,
        verify: Callable[[Digest], Deferred[Verdict]],
        remembered: int = 10_000,
        at_once: int = 4,
    ) -> None:
        """
        :param verify: reads a blob in a thread.
        :param remembered: how many blobs to remember, those that were asked for last.
        :param at_once: how many blobs to read at a time, so that threads are left for the rest.
        """
        self._verify = verify
        self._remembered = remembered
        self._turns = DeferredSemaphore(at_once)
        self._known: OrderedDict[Digest, Identity] = OrderedDict()
        self._waiting: dict[Digest, list[Deferred[Verdict]]] = {}

    def known(self, digest: Digest) -> Identity | None:
        """The file that was verified to hold a blob: no other one in its place is trusted."""
        if digest in self._known:
            self._known.move_to_end(digest)
        return self._known.get(digest)

    def remember(self, digest: Digest, identity: Identity) -> None:
        """Trust a file to hold a blob from now on."""
        self._known[digest] = identity
        self._known.move_to_end(digest)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def verify(self, digest: Digest) -> Deferred[Verdict]:
        """Have a blob verified.

        :return: the caller's own: cancelling it stops neither the reading nor anybody else.
        """
        running = digest in self._waiting
        waiting = self._waiting.setdefault(digest, [])
        waiter: Deferred[Verdict] = Deferred(waiting.remove)
        waiting.append(waiter)
        if not running:
            self._turns.run(self._verify, digest).addBoth(self._finish, digest)
        return waiter

    def _finish(self, result: Verdict | Failure, digest: Digest) -> None:
        if isinstance(result, Verdict) and result.identity is not None:
            self.remember(digest, result.identity)
        waiting = self._waiting.pop(digest)
        # One by one: whoever is answered may cancel another's wait.
        while waiting:
            # A Failure is as good as a value here: callback() turns to the errbacks for one.
            waiting.pop(0).callback(result)
