"""One image's way from its name to its manifest."""

from collections.abc import Awaitable
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.builds.cache import Cache
from nixery.builds.failures import Failures
from nixery.builds.hints import Hints
from nixery.builds.making import ImageMaker
from nixery.builds.queue import BuildQueue
from nixery.builds.ticket import Ticket
from nixery.coalesce import Coalescer
from nixery.history.history import History
from nixery.history.record import Record
from nixery.interfaces import IBuilder, ILease, IResolver, IStorage, OnBuild, Provenance, Pull
from nixery.model.digest import Digest
from nixery.model.errors import (
    ImageInvalid,
    ImageTimedOut,
    NixeryError,
    ShuttingDown,
)
from nixery.model.events import Blocked, Event, Queued, Unblocked
from nixery.model.image import Image
from nixery.model.image_key import image_key
from nixery.model.limits import BuildLimits
from nixery.model.manifest import Manifest
from nixery.model.source import PinnedSource
from nixery.model.tags import LATEST
from nixery.reactor import IReactor

T = TypeVar("T")

NO_HINTS = Hints()


@attrs.frozen
class _Running:
    """A build that waits for its turn, or has it."""

    record: Record
    ticket: Ticket


@implementer(IBuilder)
class Builder:
    """Has images made, and remembers them."""

    def __init__(
        self,
        reactor: IReactor,
        resolver: IResolver,
        storage: IStorage,
        cache: Cache,
        maker: ImageMaker,
        history: History,
        limits: BuildLimits,
        hints: Hints = NO_HINTS,
    ) -> None:
        """
        :param hints: says what may have been meant by names that no package has.
        """
        self._hints = hints
        self._reactor = reactor
        self._resolver = resolver
        self._storage = storage
        self._cache = cache
        self._maker = maker
        self._history = history
        self._limits = limits
        self._failures = Failures(reactor.seconds, limits.failure_ttl)
        self.queue = BuildQueue(reactor, limits.at_once, limits.waiting)
        self._stopping = False
        self._given_up: Deferred[None] | None = None
        self._builds: dict[str, _Running] = {}
        self._resolving: Coalescer[str, PinnedSource] = Coalescer()
        self._running: Coalescer[str, Manifest] = Coalescer()

    async def manifest(
        self,
        image: Image,
        on_build: OnBuild | None = None,
        client: str = "",
        request: str = "",
    ) -> Pull:
        if len(image.own) > (most := self._limits.packages):
            reason = f"it names {len(image.own)} packages; the limit is {most}"
            raise ImageInvalid(image.name, reason)
        pinned = await self._resolve(image.tag, client)
        key = self._key(image, pinned)
        manifest = await self._cache.manifest(key)
        if manifest is None and (official := image.official) is not None:
            manifest = await self._official(key, official, pinned, on_build, client, request)
            image = attrs.evolve(image, prefixed=False)
            key = self._key(image, pinned)
            manifest = manifest or await self._cache.manifest(key)
        if manifest is None:
            manifest = await self._wait(key, image, pinned, on_build, client, request)
        provenance = _provenance(pinned)
        self._cache.note_provenance(manifest.digest, provenance)
        return Pull(manifest, provenance)

    async def stored_manifest(self, digest: Digest) -> Pull:
        manifest = await self._cache.stored(digest)
        return Pull(manifest, await self._cache.provenance(digest))

    async def provenance(self) -> Provenance:
        return _provenance(await self.latest())

    async def latest(self) -> PinnedSource:
        """The package set as it is now."""
        return await self._resolve(LATEST)

    async def tags(self) -> list[str]:
        return await self._resolver.tags()

    async def stop(self) -> None:
        """Give up all builds, and wait until none is left."""
        await self._resolving.stop()
        await self.give_up()

    def give_up(self) -> Deferred[None]:
        """Give up all builds, and begin none; what is known is still answered.

        :return: fires when none is left; the same for all who call this.
        """
        if self._given_up is None:
            self._stopping = True
            self._given_up = Deferred.fromCoroutine(self._give_up())
        return self._given_up

    async def _give_up(self) -> None:
        await self._running.stop()
        await self._maker.layers.stop()

    def _resolve(self, tag: str, client: str = "") -> Deferred[PinnedSource]:
        return self._resolving.join(tag, lambda: self._resolver.resolve(tag, client))

    def _key(self, image: Image, pinned: PinnedSource) -> str:
        maker = self._maker
        return image_key(image, pinned, maker.budget, maker.layers.packer, maker.naming)

    async def _official(
        self,
        alias: str,
        image: Image,
        pinned: PinnedSource,
        on_build: OnBuild | None,
        client: str,
        request: str,
    ) -> Manifest | None:
        """The manifest of ``NAME``, which ``library/NAME`` was asked for: the same build as that
        of any other who asks for it.

        :param alias: the image key of the latter, which stands for the former from then on.
        :return: nothing if the set has something named ``library``.
        """
        libraries, key = self._maker.libraries, self._key(image, pinned)
        manifest = None
        while (known := libraries.get(pinned, image.system)) is None:
            # A build that has begun may find it among what other instances have made.
            libraries.want(pinned, image.system)
            try:
                manifest = await self._wait(key, image, pinned, on_build, client, request)
            finally:
                libraries.forget(pinned, image.system)
        if known:
            return None
        manifest = manifest or await self._cache.manifest(key)
        if manifest is None:
            manifest = await self._wait(key, image, pinned, on_build, client, request)
        await self._cache.remember_key(alias, manifest.digest)
        return manifest

    def _wait(
        self,
        key: str,
        image: Image,
        pinned: PinnedSource,
        on_build: OnBuild | None,
        client: str,
        request: str,
    ) -> Deferred[Manifest]:
        """Wait for the build of an image, which is begun if none runs.

        :raises NixeryError: what kept the image from being made a moment ago.
        """
        build = self._builds.get(key)
        if build is not None:
            self.queue.join(build.ticket, client)
        elif (failed := self._failures.get(key)) is not None:
            if on_build is not None:
                on_build(failed.build)
            self._hints.add(failed.error)
            raise failed.error

        def start() -> Awaitable[Manifest]:
            nonlocal build
            build = self._begin(key, image, client, request)
            return self._record(build, key, image, pinned)

        waiting = self._running.join(key, start)
        if build is not None:
            waiting.addBoth(self._leave, build.ticket, client)
            build.record.asked(self._running.waiting(key))
            if on_build is not None:
                on_build(build.record.id)
        return waiting

    def _leave(self, result: T, ticket: Ticket, client: str) -> T:
        self.queue.part(ticket, client)
        return result

    def _begin(self, key: str, image: Image, client: str, request: str) -> _Running:
        ticket = self.queue.enter(client)
        record = self._history.begin(key, image.name, image.tag, request)
        record.waiting = lambda: self._running.waiting(key)
        build = self._builds[key] = _Running(record, ticket)
        return build

    async def _record(
        self, build: _Running, key: str, image: Image, pinned: PinnedSource
    ) -> Manifest:
        record = build.record
        try:
            manifest = await self._in_turn(build, key, image, pinned)
        except BaseException as error:
            self._hints.add(error)
            derivation = getattr(error, "derivation", None)
            reason = _reason(self._hints.recorded(error))
            record.failed(reason, derivation, type(error).__name__, _in_full(error))
            self._failures.note(key, error, record.id)
            raise
        finally:
            del self._builds[key]
        record.done(str(manifest.digest))
        return manifest

    async def _in_turn(
        self, build: _Running, key: str, image: Image, pinned: PinnedSource
    ) -> Manifest:
        """Make an image when its turn comes, in the time that it may take."""
        ticket, queue = build.ticket, self.queue
        while True:
            if not ticket.turn.called:
                build.record.emit(Queued(queue.running, queue.waiting))
            await ticket.turn
            making = self._timed(Deferred.fromCoroutine(self._make(build, key, image, pinned)))
            ticket.give_way = making.cancel
            try:
                manifest = await making
            except BaseException:  # what is stopped may say so in any way
                if self._stopping or not ticket.gives_way:
                    queue.end(ticket)
                    raise
                queue.again(ticket)
            else:
                queue.end(ticket)
                return manifest

    def _timed(self, making: Deferred[Manifest]) -> Deferred[Manifest]:
        seconds = self._limits.seconds

        def late(result: Manifest | Failure, _: float) -> Manifest | Failure:
            stopped = isinstance(result, Failure) and result.check(CancelledError) is not None
            return Failure(ImageTimedOut(seconds)) if stopped else result

        return making.addTimeout(seconds, self._reactor, onTimeoutCancel=late)

    async def _make(
        self, build: _Running, key: str, image: Image, pinned: PinnedSource
    ) -> Manifest:
        """Make an image, unless another instance is just doing so: then wait and take that."""

        over = False

        def emit(event: Event) -> None:
            # Nix goes on talking while it is being stopped, even beside the next attempt.
            if not (over or build.ticket.gives_way):
                build.record.emit(event)
                self.queue.note(build.ticket, event)

        lease = await self._lease(build.ticket, key)
        try:
            manifest = await self._cache.manifest(key, again=True)
            if manifest is None or self._maker.libraries.is_wanted(pinned, image.system):
                manifest = await self._maker.make(image, pinned, emit)
                await self._cache.remember_manifest(key, manifest, _provenance(pinned))
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


def _provenance(pinned: PinnedSource) -> Provenance:
    return Provenance(pinned.source.label, pinned.revision, pinned.stale)


def _reason(error: BaseException) -> str:
    """What people are told of a build that did not end well."""
    return _in_full(error.public() if isinstance(error, NixeryError) else error)


def _in_full(error: BaseException) -> str:
    """What the operator is told of it."""
    if isinstance(error, CancelledError):
        error = ShuttingDown()
    return str(error) or type(error).__name__
