"""One build for each image key, however many clients ask: in its turn, in time, recorded."""

from collections.abc import Awaitable
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from nixery.builds.cache import Cache
from nixery.builds.failures import Failures, Hints
from nixery.builds.making import ImageMaker
from nixery.builds.queue import BuildQueue
from nixery.builds.ticket import Ticket
from nixery.coalesce import Coalescer
from nixery.history.history import History
from nixery.history.record import Record
from nixery.interfaces import ILease, IStorage, OnBuild, Provenance
from nixery.model.build_errors import ImageTimedOut
from nixery.model.errors import NixeryError
from nixery.model.events import Blocked, Event, Queued, Unblocked
from nixery.model.image import Image
from nixery.model.limits import BuildLimits
from nixery.model.manifest import Manifest
from nixery.model.service_errors import ShuttingDown
from nixery.model.source import PinnedSource
from nixery.reactor import IReactor

T = TypeVar("T")


@attrs.frozen
class Wanted:
    """An image that is asked for.

    :param key: the image key.
    :param evaluate: whether to evaluate the package set even if the image need not be made.
    """

    key: str
    image: Image
    pinned: PinnedSource
    evaluate: bool = False

    @property
    def provenance(self) -> Provenance:
        """The image's source."""
        return provenance_of(self.pinned)


@attrs.frozen
class Asker:
    """Who asks for an image: see :meth:`nixery.interfaces.IBuilder.manifest`.

    :param behind: whether nobody waits: see :meth:`nixery.builds.queue.BuildQueue.enter_behind`.
    """

    on_build: OnBuild | None
    client: str
    request: str
    behind: bool = False


@attrs.frozen
class _Build:
    """A build that waits for its turn, or has it."""

    wanted: Wanted
    record: Record
    ticket: Ticket

    @property
    def waiting(self) -> int:
        """The number of those who wait for it."""
        return self.ticket.clients.total()


@attrs.define(eq=False)
class SharedBuilds:
    """The builds that run or wait for their turn."""

    _reactor: IReactor
    _storage: IStorage
    _cache: Cache
    _maker: ImageMaker
    _history: History
    _limits: BuildLimits
    _hints: Hints
    queue: BuildQueue = attrs.field(init=False)
    _failures: Failures = attrs.field(init=False)
    _stopping: bool = attrs.field(init=False, default=False)
    _builds: dict[str, _Build] = attrs.field(init=False, factory=dict)
    _running: Coalescer[str, Manifest] = attrs.field(init=False, factory=Coalescer)

    def __attrs_post_init__(self) -> None:
        limits = self._limits
        self.queue = BuildQueue(self._reactor, limits.at_once, limits.waiting)
        self._failures = Failures(self._reactor.seconds, limits.failure_ttl)

    def wait(self, wanted: Wanted, asker: Asker) -> Deferred[Manifest]:
        """Wait for the build of an image, which begins if none runs.

        :raises NixeryError: what kept the image from being made a moment ago.
        """
        key = wanted.key
        build = self._builds.get(key)
        if build is not None:
            if not asker.behind:
                self.queue.join(build.ticket, asker.client)
        elif (failed := self._failures.get(key)) is not None:
            if asker.on_build is not None:
                asker.on_build(failed.build)
            self._hints.add(failed.error)
            raise failed.error

        def start() -> Awaitable[Manifest]:
            nonlocal build
            build = self._begin(wanted, asker)
            return self._run(build)

        waiting = self._running.join(key, start)
        if build is not None:
            if not asker.behind:
                waiting.addBoth(self._leave, build.ticket, asker.client)
                build.record.asked(build.waiting)
            if asker.on_build is not None:
                asker.on_build(build.record.id)
        return waiting

    def stop(self) -> Deferred[None]:
        """Give up all builds; fires when none is left."""
        self._stopping = True
        return self._running.stop()

    def _leave(self, result: T, ticket: Ticket, client: str) -> T:
        self.queue.part(ticket, client)
        return result

    def _begin(self, wanted: Wanted, asker: Asker) -> _Build:
        key, image = wanted.key, wanted.image
        enter = self.queue.enter_behind if asker.behind else self.queue.enter
        ticket = enter(asker.client)
        record = self._history.begin(key, image.name, image.tag, asker.request)
        build = self._builds[key] = _Build(wanted, record, ticket)
        record.waiting = lambda: build.waiting
        return build

    async def _run(self, build: _Build) -> Manifest:
        record, key = build.record, build.wanted.key
        try:
            manifest = await self._in_turn(build)
        except BaseException as error:
            self._hints.add(error)
            derivation = getattr(error, "derivation", None)
            recorded = self._hints.recorded(error)
            public = recorded.public() if isinstance(recorded, NixeryError) else recorded
            record.failed(_words(public), derivation, type(error).__name__, _words(error))
            self._failures.note(key, error, record.id)
            raise
        finally:
            del self._builds[key]
        record.done(str(manifest.digest))
        return manifest

    async def _in_turn(self, build: _Build) -> Manifest:
        """Make an image when its turn comes, in the time that it may take."""
        queue = self.queue
        return await queue.in_turn(
            build.ticket,
            lambda: self._timed(Deferred.fromCoroutine(self._make(build))),
            lambda: self._stopping,
            lambda: build.record.emit(Queued(queue.running, queue.waiting)),
        )

    def _timed(self, making: Deferred[Manifest]) -> Deferred[Manifest]:
        def late(result: Manifest | Failure, seconds: float) -> Manifest | Failure:
            stopped = isinstance(result, Failure) and result.check(CancelledError) is not None
            return Failure(ImageTimedOut(seconds)) if stopped else result

        return making.addTimeout(self._limits.seconds, self._reactor, onTimeoutCancel=late)

    async def _make(self, build: _Build) -> Manifest:
        """Make an image, unless another instance is making it: then wait, and take that one."""
        wanted, ticket, over = build.wanted, build.ticket, False

        def emit(event: Event) -> None:
            # Nix goes on talking while it is being stopped, even beside the next attempt.
            if not (over or ticket.gives_way):
                build.record.emit(event)
                self.queue.note(ticket, event)

        lease = await self._lease(ticket, wanted.key)
        try:
            manifest = await self._cache.manifest(wanted.key, again=True)
            if manifest is None or wanted.evaluate:
                image, origin = wanted.image, wanted.provenance
                manifest, contents = await self._maker.make(image, wanted.pinned, emit)
                await self._cache.remember_manifest(wanted.key, manifest, origin, contents, image)
            return manifest
        finally:
            over = True
            await lease.release()

    async def _lease(self, ticket: Ticket, key: str) -> ILease:
        self.queue.note(ticket, Blocked(()))
        try:
            return await self._storage.lease(key)
        finally:
            self.queue.note(ticket, Unblocked())


def provenance_of(pinned: PinnedSource) -> Provenance:
    """The source of an image, for people to read."""
    return Provenance(pinned.source.label, pinned.revision, pinned.stale)


def _words(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        error = ShuttingDown()
    return str(error) or type(error).__name__
