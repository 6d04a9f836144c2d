"""Blobs and records in a folder.

Its layout::

    layers/<sha256>        every blob: layers, configs, manifests
    builds/<layer key>     records, as in every storage: nixery/storage/keys.py
    manifests/<image key>
    …
    staging/<process>/…    what is not whole yet
    leases/<key>           what a process is making
    used/<sha256>          when a blob was of use last
    scrubbed               the blob that was verified last, of all in turn

Several processes may share one folder. All that touches files runs in the reactor's threads.
"""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from nixery.interfaces import BlobFile, ILease, IStorage, IUpload, Tidied
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.limits import DiskLimits
from nixery.model.manifest import Descriptor
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageUnavailable
from nixery.reactor import IReactor, in_thread
from nixery.storage.filesystem.file_leases import TIMING, FileLeases, clear_leases
from nixery.storage.filesystem.files import (
    READABLE_BY_ALL,
    FileIdentity,
    identify,
    is_full,
    make_usable,
    read_file,
    remove,
    scan,
    sealed,
    settle,
    storage_faults,
)
from nixery.storage.filesystem.housekeeping import Housekeeping
from nixery.storage.filesystem.last_use import Marks
from nixery.storage.filesystem.staging import Staging
from nixery.storage.filesystem.standing import StandingBlobs
from nixery.storage.filesystem.verification import BlobVerifier, Verdict, verify_file
from nixery.storage.filesystem.verified_marks import VerifiedMarks
from nixery.storage.held_lease import LeaseTiming
from nixery.storage.keys import (
    RECORDS,
    check_lease_key,
    check_record_key,
    check_record_prefix,
    is_record_key,
)
from nixery.whole_file import put_in_place, sync_folder, whole_file

_FOLDERS = ("staging", "layers", *RECORDS, "leases", "used")
_LISTED = 1000  # names of records that are read at once
_FRESH = 30.0  # seconds by which a blob's last use may be later than its mark says, at most

P = ParamSpec("P")
T = TypeVar("T")


@implementer(IUpload)
class FileUpload:
    """A blob in the making, as a file in the staging folder."""

    def __init__(self, storage: "FilesystemStorage", sink: str) -> None:
        self.sink = sink
        self.fault: NixeryError | None = None
        self._storage = storage

    async def commit(self, digest: Digest, size: int) -> None:
        await self._storage.keep(self.sink, digest, size)

    async def discard(self) -> None:
        await self._storage.forget(self.sink)


@implementer(IStorage)
class FilesystemStorage:
    """A storage that trusts no file that may have changed since it was verified."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        folder: str,
        limits: DiskLimits = DiskLimits(scrub_days=0),  # noqa: B008
        leasing: LeaseTiming = TIMING,
        marks: str | None = None,
    ) -> None:
        """
        :param reactor: whose threads do the work.
        :param folder: is made if it is not there.
        :param marks: a file that keeps over a restart which blobs were verified.
        """
        self._reactor = reactor
        self._folder = os.path.abspath(folder)
        self._staging = Staging(self._path("staging"))
        self._verifier = BlobVerifier(reactor.seconds, self._verify)
        self._verified = None if marks is None else VerifiedMarks(reactor, marks, self._verifier)
        aside = self._staging.aside
        self._leases = FileLeases(reactor, self._in_thread, aside, leasing)
        self._standing = StandingBlobs(self._path("layers"), reactor.seconds)
        self.changes = self._standing.changes
        self._unmarked = False
        self._marks = Marks(self._path("used"), min(_FRESH, limits.storage_grace / 4))
        self.housekeeping = Housekeeping(reactor, self._folder, self._marks, aside, limits)

    async def start(self) -> None:
        await self._in_thread(self._prepare)
        self.housekeeping.start()
        if self._verified is not None:
            self._verified.start()

    def stop(self) -> None:
        self.housekeeping.stop()
        if self._verified is not None:
            self._verified.stop()
        # A thread that still drops blobs has one in the folder: it goes with the process then.
        if not self.housekeeping.busy:
            self._staging.leave()

    async def tidy(self) -> Tidied:
        return await self.housekeeping.tidy()

    async def probe(self) -> None:
        if not await self._in_thread(self._probe):
            raise StorageUnavailable("what was written just now is not there")

    async def read_record(self, key: str, fresh: bool = False) -> bytes | None:
        return await self._in_thread(read_file, self._path(check_record_key(key)))

    async def write_record(self, key: str, content: bytes, lasting: bool = True) -> None:
        path = self._path(check_record_key(key))
        await self._in_thread(self._write_record, path, content, lasting)

    async def delete_record(self, key: str) -> None:
        await self._in_thread(self._delete, self._path(check_record_key(key)))

    async def list_records(self, prefix: str) -> AsyncIterator[str]:
        kind, _, digits = check_record_prefix(prefix).partition("/")
        with await self._in_thread(scan, self._path(kind)) as entries:
            while names := await self._in_thread(_next_names, entries):
                for key in (f"{kind}/{name}" for name in names if name.startswith(digits)):
                    if is_record_key(key):
                        yield key

    async def write_blob(self, content: bytes) -> Digest:
        digest = await self._in_thread(Digest.of, content)
        known = self._verifier.known(digest)
        identity = await self._in_thread(self._write_blob, content, digest, known)
        self._verifier.remember(digest, identity)
        self.housekeeping.wrote(len(content))
        return digest

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        if not await self._in_thread(self._fits, digest, limit):
            raise BlobUnknown(str(digest))
        await self.locate(digest)
        content = await self._in_thread(self._read_blob, digest, limit)
        if content is None:
            raise BlobUnknown(str(digest))
        return content

    async def use(self, blobs: Sequence[Digest]) -> None:
        if due := self._marks.due([blob.hex for blob in blobs]):
            await self._in_thread(self._use, due)

    async def drop(self, blobs: Sequence[Digest], used: bool = False) -> list[Digest]:
        stay = await self.housekeeping.drop([blob.hex for blob in blobs], used)
        return [blob for blob in blobs if blob.hex in stay]

    async def missing_blobs(self, blobs: Sequence[Descriptor]) -> list[Digest]:
        found = await self._found([blob.digest for blob in blobs])

        def there(blob: Descriptor) -> bool:
            file = found.get(blob.digest.hex)
            return file is not None and file.is_file and file.size == blob.size

        return [blob.digest for blob in blobs if not there(blob)]

    async def locate(self, digest: Digest) -> BlobFile:
        found = (await self._found([digest])).get(digest.hex)
        if found is not None and found != self._verifier.known(digest):
            found = await self._verifier.verify(digest)
        if found is None:
            raise BlobUnknown(str(digest))
        return BlobFile(self._blob(digest), found.size, found.modified, found.changed)

    async def receive(self) -> FileUpload:
        return FileUpload(self, await self._in_thread(self._staging.name))

    async def keep(self, staged: str, digest: Digest, size: int) -> None:
        """Take a file that was written into the staging folder for a blob.

        :param size: bytes.
        """
        known = self._verifier.known(digest)
        identity = await self._in_thread(self._keep, staged, digest, size, known)
        self._verifier.remember(digest, identity)
        self.housekeeping.wrote(size)

    async def lease(self, key: str) -> ILease:
        return await self._leases.lease(self._path(f"leases/{check_lease_key(key)}"))

    async def forget(self, staged: str) -> None:
        """Remove a file from the staging folder, if it is still there.

        That is safe while it is being kept, by a thread whose caller has left: it is in its place
        already, or that thread finds it gone.
        """
        await self._in_thread(remove, staged)

    async def _found(self, blobs: Sequence[Digest]) -> Mapping[str, FileIdentity]:
        """The files in the places of blobs, which are of use now, by their names."""
        names = [blob.hex for blob in blobs]
        found = self._standing.known(names)
        if self._marks.due(names) or not all(name in found for name in names):
            if self._standing.unwatched:
                await self._in_thread(self._standing.watch)
            look = self._standing.look(names)
            found = await self._in_thread(self._find, names)
            self._standing.ended(look, found)
        return found

    def _verify(self, digest: Digest) -> Deferred[Verdict]:
        path = self._blob(digest)

        def report(verdict: Verdict) -> Verdict:
            if verdict.dropped:
                self._log.error("dropped {path}: it {damage}", path=path, damage=verdict.dropped)
            return verdict

        verdict = self._in_thread(verify_file, path, digest, self._staging.aside)
        return verdict.addCallback(report)

    def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        def guarded() -> T:
            with storage_faults(self._folder):
                return work(*args, **kwargs)

        return in_thread(self._reactor, guarded)

    # --- what runs in threads -------------------------------------------------------------

    def _prepare(self) -> None:
        if self._verified is not None:
            self._verified.load()
        if self._is_read_only():
            self._log.error(
                "{folder} is mounted read-only: what is stored is served, nothing new is made",
                folder=self._folder,
            )
            return
        self._make_folders()
        self._clear()

    def _is_read_only(self) -> bool:
        """Whether blobs can be read and nothing can be written. A lack of permission is another
        thing: a fault of whoever set it up."""
        layers = self._path("layers")
        return os.path.isdir(layers) and bool(os.statvfs(layers).f_flag & os.ST_RDONLY)

    def _make_folders(self) -> None:
        for name in _FOLDERS:
            make_usable(self._path(name))
        device = os.stat(self._path("staging")).st_dev
        for name in _FOLDERS:
            if os.stat(self._path(name)).st_dev != device:
                raise StorageUnavailable(
                    f"{self._path(name)} and {self._path('staging')} are on two file systems"
                )
        sync_folder(self._folder)

    def _clear(self) -> None:
        self._staging.clear()
        if gone := clear_leases(self._path("leases")):
            self._log.info(
                "removed from {folder} the leases of {count} builds that were not finished",
                folder=self._path("leases"),
                count=len(gone),
            )
        try:
            self._staging.name()
        except OSError as error:
            # What is stored can be served all the same.
            if not is_full(error):
                raise

    def _probe(self) -> bool:
        for name in _FOLDERS:
            make_usable(self._path(name))
        path, content = self._staging.name(), uuid.uuid4().bytes
        try:
            with whole_file(path, beside=self._staging.name(), mode=READABLE_BY_ALL) as file:
                file.write(content)
            return read_file(path) == content
        finally:
            remove(path)

    def _write_record(self, path: str, content: bytes, lasting: bool) -> None:
        beside, aside = self._staging.name(), self._staging.name()
        if lasting:
            # The names of all blobs at once; their contents are safe since before they had names.
            sync_folder(self._path("layers"))
        with whole_file(path, beside, aside, READABLE_BY_ALL, lasting) as file:
            file.write(content)

    def _find(self, names: Sequence[str]) -> dict[str, FileIdentity]:
        """The files in blobs' places, which are of use now.

        A blob that is not there gets no mark: anybody may ask for any digest, and each would be a
        file.
        """
        self._standing.watch()
        due = [name for name in self._marks.due(names) if self._identify(name) is not None]
        if due:
            self._use(due)
        found = ((name, self._identify(name)) for name in names)
        return {name: file for name, file in found if file is not None}

    def _identify(self, name: str) -> FileIdentity | None:
        return identify(self._path(f"layers/{name}"))

    def _use(self, names: Sequence[str]) -> None:
        fault = self._marks.use(names)
        if fault is not None and not self._unmarked:
            # A full disk, or one that can only be read, serves what it has.
            self._log.warn("blobs can't be marked as used: {error}", error=fault)
        self._unmarked = fault is not None

    def _delete(self, path: str) -> None:
        if identify(path) is not None:
            remove(path)
            sync_folder(os.path.dirname(path))

    def _write_blob(
        self, content: bytes, digest: Digest, known: FileIdentity | None
    ) -> FileIdentity:
        staged = self._staging.name()
        try:
            with open(staged, "xb") as file:
                file.write(content)
            return self._keep(staged, digest, len(content), known)
        finally:
            remove(staged)

    def _keep(
        self, staged: str, digest: Digest, size: int, known: FileIdentity | None
    ) -> FileIdentity:
        """Put a staged file in a blob's place.

        :param known: the file that was verified to hold the blob: it stays if it is still there.
            Any other is replaced, which costs less than to verify it.
        """
        path = self._blob(digest)
        self._use([digest.hex])
        try:
            with sealed(staged, size) as file:
                there = identify(path)
                if there is None or there != known:
                    put_in_place(staged, path, self._staging.name())
                    there = FileIdentity.of(os.fstat(file))
        finally:
            remove(staged)
        settle(there)
        return there

    def _fits(self, digest: Digest, limit: int) -> bool:
        """Whether there is something to look at that is not too large for a blob asked for."""
        found = identify(self._blob(digest))
        return found is not None and not (found.is_file and found.size > limit)

    def _read_blob(self, digest: Digest, limit: int) -> bytes | None:
        content = read_file(self._blob(digest), limit + 1)
        return content if content is not None and Digest.of(content) == digest else None

    def _blob(self, digest: Digest) -> str:
        return self._path(f"layers/{digest.hex}")

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, key)


def _next_names(entries: Iterator[os.DirEntry[str]]) -> list[str]:
    return [entry.name for entry in islice(entries, _LISTED)]
