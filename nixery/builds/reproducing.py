"""Images made again, to see whether they come out the same; never in the way of a pull.

Derivations are built again and compared by Nix, layers are packed again and compared by their
digests; nothing of it is stored but the result.
"""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.layers import LayerContents
from nixery.builds.making import ImageMaker
from nixery.coalesce import Coalescer
from nixery.interfaces import INix
from nixery.model.closure import Realisation, store_name
from nixery.model.contents import Contents, unpack_contents
from nixery.model.errors import NixeryError
from nixery.model.image import Image, parse_image
from nixery.model.manifest import Manifest, parse_manifest
from nixery.model.reading import Reading
from nixery.model.reproduction import RebuiltDerivation, RepackedLayer, Reproduction, compared
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import OtherRegistryUnavailable, QueueFull, ShuttingDown
from nixery.model.source import PinnedSource
from nixery.model.text import cut
from nixery.reactor import IReactor
from nixery.recent import Recent
from nixery.slots import Slots

CLIENT = "verification"
"""Who verifications share their turns as: see :mod:`nixery.builds.queue`."""
_MOST = _REMEMBERED = 100
"""Verifications that wait, and ended ones that are told of."""
_MOST_FAULTS = 20  # that the log names
_AGE = 600.0
"""Seconds for which it is told how a verification ended."""

Record = Callable[[Reproduction], Awaitable[None]]
AskOther = Callable[[str, Image], Awaitable[bytes]]
"""Gives another registry's manifest of an image: ``ask(url, image)``."""


class IRebuilder(Protocol):
    """Builds derivations again."""

    async def rebuild(self, derivation: str) -> RebuiltDerivation:
        """See :meth:`nixery.nix.rebuilding.Rebuilder.rebuild`."""


@attrs.frozen
class Request:
    """What is to be made again.

    :param deep: whether that is all of its closure that was built here.
    :param against: the URL of another registry that is asked instead; empty for none.
    """

    image: Image
    deep: bool = False
    against: str = ""


@attrs.define
class Progress:
    """How far a verification is.

    :param step: what is being done, for people; empty while it waits for its turn.
    :param done: derivations that were built again.
    :param total: derivations to build again.
    :param result: the end of it.
    :param error: why there is no result.
    """

    step: str = ""
    done: int = 0
    total: int = 0
    result: Reproduction | None = None
    error: NixeryError | None = None


class Reproducer:
    """Makes images again, one at a time."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        builder: Builder,
        cache: Cache,
        nix: INix,
        rebuilder: IRebuilder,
        maker: ImageMaker,
        ask: AskOther,
        end: Callable[[], Deferred[None]],
        share: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param maker: stores nothing: see :mod:`nixery.builds.rehearsal`.
        :param ask: asks another registry.
        :param end: ends what it makes images with.
        :param share: per cent of the images made that are made again.
        :param now: seconds since the epoch.
        """
        self.outcomes: Counter[str] = Counter()
        """How often a verification ended with an outcome."""
        self.attest: Record | None = None
        """Is given each result."""
        self._reactor, self._builder, self._cache = reactor, builder, cache
        self._nix, self._rebuilder, self._maker, self._ask = nix, rebuilder, maker, ask
        self._end = end
        self._share, self._now = share, now
        self._slots = Slots()
        self._running: Coalescer[Request, Reproduction] = Coalescer()
        self._progress: dict[Request, Progress] = {}
        self._ended: Recent[Request, Progress] = Recent(reactor.seconds, _REMEMBERED)
        self._stopping = False

    def readings(self) -> list[Reading]:
        """The metric of verifications."""
        return [
            Reading(
                "nixery_verifications",
                "Images that were rebuilt for verification, by outcome.",
                lambda: self.outcomes,
                "outcome",
                total=True,
            )
        ]

    async def stop(self) -> None:
        """Give up what is being verified, and wait until nothing is left of it."""
        self._stopping = True
        await self._running.stop()
        await self._maker.layers.stop()
        await self._end()

    def begin(self, request: Request) -> Progress:
        """Verify an image, unless that is being done.

        :return: changes while it is done.
        :raises QueueFull: if too many wait.
        :raises ShuttingDown: when the daemon stops.
        """
        if self._stopping:
            raise ShuttingDown()
        progress = self._progress.get(request)
        if progress is None:
            if len(self._progress) >= _MOST:
                raise QueueFull(len(self._progress))
            progress = self._progress[request] = Progress()
            running = self._running.join(request, lambda: self._run(request, progress))
            running.addBoth(self._end_of, request, progress)
        return progress

    def state(self, request: Request) -> Progress | None:
        """How far a verification is, or how it ended some minutes ago."""
        return self._progress.get(request) or self._ended.get(request, _AGE)

    def made(self, name: str, tag: str) -> None:
        """An image was made: verify it, if it is one of the sample."""
        is_wanted = random.random() * 100 < self._share
        if is_wanted and len(self._progress) < _MOST and not self._stopping:
            self.begin(Request(parse_image(name, tag)))

    def _end_of(self, result: Any, request: Request, progress: Progress) -> None:
        self._ended.put(request, self._progress.pop(request))
        if isinstance(result, Reproduction):
            progress.result = result
            return
        error = result.value
        progress.error = error if isinstance(error, NixeryError) else ShuttingDown()
        name = f"{request.image.name}:{request.image.tag}"
        if isinstance(error, NixeryError):
            self._log.info("{name} can't be verified: {error}", name=name, error=str(error))
        else:
            self._log.failure("while verifying {name}", result, name=name)

    async def _run(self, request: Request, progress: Progress) -> Reproduction:
        request = attrs.evolve(request, image=self._builder.usual(request.image))
        with await self._slots.take():
            queue = self._builder.queue
            rebuilt: dict[str, RebuiltDerivation] = {}

            def work() -> Deferred[Reproduction]:
                return Deferred.fromCoroutine(self._reproduce(request, progress, rebuilt))

            ticket = queue.enter_behind(CLIENT)
            made = await queue.in_turn(ticket, work, lambda: self._stopping)
        await self._record(made)
        return made

    async def _reproduce(
        self, request: Request, progress: Progress, rebuilt: dict[str, RebuiltDerivation]
    ) -> Reproduction:
        """
        :param rebuilt: what was built again before this gave way; takes what is.
        :raises NixeryError: if it can't be tried.
        """
        began, image = self._now(), request.image
        progress.step = "looking for the image"
        known = await self._builder.known(image)
        if known is None:
            raise ManifestUnknown(f"{image.name}:{image.tag}")
        pinned, manifest = known
        if request.against:
            progress.step = f"asking {request.against}"
            other = parse_manifest(await self._ask(request.against, image))
            if other is None:
                reason = "its answer is not an image manifest"
                raise OtherRegistryUnavailable(request.against, reason)
            again, layers = str(other.digest), compared(manifest, other)
            revision = other.annotation("revision") or pinned.revision
            remark = (
                ""
                if revision == pinned.revision
                else f"it serves the revision {cut(revision, 100)}"
            )
        else:
            await self._rebuild(request, pinned, progress, rebuilt)
            progress.step = "packing the layers again"
            again, layers = await self._repack(image, pinned, manifest)
            remark = ""
        return Reproduction(
            name=image.name,
            tag=image.tag,
            digest=str(manifest.digest),
            again=again,
            source=pinned.source.label,
            revision=pinned.revision,
            deep=request.deep,
            against=request.against,
            began=began,
            ended=self._now(),
            derivations=tuple(rebuilt.values()),
            layers=layers,
            remark=remark,
            address=self._maker.naming.address(pinned),
        )

    async def _rebuild(
        self,
        request: Request,
        pinned: PinnedSource,
        progress: Progress,
        rebuilt: dict[str, RebuiltDerivation],
    ) -> None:
        progress.step = "looking for its derivations"
        realisation = await self._nix.realise(request.image, pinned, lambda event: None)
        try:
            derivations = _derivations(realisation, request.deep)
            progress.total = len(derivations)
            for derivation in derivations:
                progress.step = f"building {store_name(derivation)} again"
                if derivation not in rebuilt:
                    rebuilt[derivation] = await self._rebuilder.rebuild(derivation)
                progress.done = len(rebuilt)
        finally:
            await self._nix.release(realisation)

    async def _repack(
        self, image: Image, pinned: PinnedSource, manifest: Manifest
    ) -> tuple[str, tuple[RepackedLayer, ...]]:
        made, packed = await self._maker.make(image, pinned, lambda event: None)
        there = await self._cache.contents(manifest.digest)
        again = unpack_contents(packed)
        if there is None:  # of an older version, which did not write down what is in which layer
            found = {layer.digest for layer in again.layers}
            digests = [str(blob.digest) for blob in manifest.blobs[1:]]
            layers = (RepackedLayer(d, d if d in found else "") for d in digests)
            return str(made.digest), tuple(layers)
        return await self._regrouped(made, there, again)

    async def _regrouped(
        self, made: Manifest, there: Contents, again: Contents
    ) -> tuple[str, tuple[RepackedLayer, ...]]:
        """The layers of an image that was packed again; those with other paths, as popularity has
        it now, are packed once more with the paths that they had."""
        found = {layer.paths: layer.digest for layer in again.layers}
        layers, alike = [], True
        for layer in there.layers:
            digest = found.get(layer.paths)
            if digest is None:
                alike = False
                contents = LayerContents(layer.digest, layer.paths)
                repacked = await self._maker.layers.make(contents, lambda event: None)
                digest = str(repacked.descriptor.digest)
            layers.append(RepackedLayer(layer.digest, digest, layer.paths))
        return str(made.digest) if alike else "", tuple(layers)

    async def _record(self, made: Reproduction) -> None:
        self.outcomes[made.outcome] += 1
        words = f"{made.name}:{made.tag} {made.digest}: {made.outcome}"
        if made.outcome == "same":
            self._log.info("verified {words}", words=words)
        else:
            parts = "; ".join(islice(made.faults(), _MOST_FAULTS))
            self._log.warn("verified {words}: {parts}", words=words, parts=parts)
        document = {"digest": made.digest, "result": made.document()}
        try:
            await self._cache.write(f"verified/{made.digest.removeprefix('sha256:')}", document)
            if self.attest is not None:
                await self.attest(made)
        except NixeryError as error:
            self._log.warn("the result can't be stored: {error}", error=str(error))


def _derivations(realisation: Realisation, deep: bool) -> list[str]:
    """The derivations to build again, each once."""
    graph = realisation.graph
    paths: Iterable[str] = realisation.paths
    if deep:
        paths = [*paths, *(path for path in sorted(graph) if graph[path].get("built"))]
    found = (graph[path].get("deriver") for path in paths)
    return list(dict.fromkeys(each for each in found if each))
