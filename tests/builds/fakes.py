"""The parts below a build, as tests tell them to be."""

import itertools
import json
import os
import pickle
from binascii import a2b_base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from zope.interface import implementer

from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.failures import Hints
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.history.history import History
from nixery.interfaces import INix, IResolver
from nixery.model.closure import Graph, Realisation, Root
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.events import Emit
from nixery.model.identity import Naming
from nixery.model.image import AMD64, Image
from nixery.model.limits import BuildLimits
from nixery.model.popularity import Popularity
from nixery.model.registration import ValidPath
from nixery.model.source import FolderContents, LocalFolder, PinnedSource
from nixery.model.suggestions import Suggestion
from nixery.packing.job import FurnishJob, PackedLayer, PackJob
from nixery.packing.tar import Entry
from nixery.packing.worker import read_entries
from nixery.storage.memory import MemoryStorage

reactor: Any = _reactor


def store_path(name: str) -> str:
    """A store path for a name."""
    return f"/nix/store/{Digest.of(name.encode()).hex[:32]}-{name}"


@implementer(INix)
@attrs.define
class FakeNix:
    """Every package is one path that refers to ``libc``.

    :ivar folder: where the files of store paths lie.
    :ivar gate: while it is set, realising waits for it.
    :ivar error: what realising fails with.
    :ivar errors: likewise, for one system.
    :ivar empty: while it is set, store paths have no files.
    :ivar has_library: whether the set has something named ``library``.
    :ivar emit: what was last told to take events.
    """

    folder: str
    asked: list[Image] = attrs.Factory(list)
    released: list[str] = attrs.Factory(list)
    gate: Deferred[None] | None = None
    error: NixeryError | None = None
    errors: dict[str, NixeryError] = attrs.Factory(dict)
    empty: bool = False
    has_library: bool = False
    emit: Emit | None = None
    asked_for_registration: int = 0

    async def realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        self.asked.append(image)
        self.emit = emit
        if self.gate is not None:
            await self.gate
        if (error := self.errors.get(image.system, self.error)) is not None:
            raise error
        roots = tuple(Root(name, name, store_path(f"{name}-1.0")) for name in image.packages)
        libc = store_path("libc-2.0")
        graph: Graph = {
            libc: {"size": 1000, "references": []},
            **{root.path: {"size": 10, "references": [libc]} for root in roots},
        }
        if not self.empty:
            for path in graph:
                self._make(path)
        return Realisation(roots, graph, f"guard of {image.name}", self.has_library)

    async def registered(self, realisation: Realisation) -> list[ValidPath]:
        self.asked_for_registration += 1
        return [
            ValidPath(path, Digest.of(path.encode()).hex, node["size"], tuple(node["references"]))
            for path, node in realisation.graph.items()
        ]

    async def release(self, realisation: Realisation) -> None:
        self.released.append(realisation.guard)

    def physical(self, path: str) -> str:
        return self.folder + path

    def _make(self, path: str) -> None:
        program = Path(self.physical(path)) / "bin" / path.rpartition("-")[0][44:]
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch()


@implementer(IResolver)
@attrs.define
class FakeResolver:
    """One revision for every tag.

    :ivar clients: who asked.
    :ivar gate: while it is set, resolving waits for it.
    :ivar error: what resolving fails with.
    :ivar edited: while it is set, a revision is no more what it was.
    :ivar committed: when its revision was committed.
    :ivar stale: whether it is the last that is known of the source.
    """

    revision: str = "1"
    error: NixeryError | None = None
    asked: list[str] = attrs.Factory(list)
    clients: list[str] = attrs.Factory(list)
    gate: Deferred[None] | None = None
    edited: bool = False
    committed: int | None = None
    stale: bool = False
    refreshed: int = 0

    async def refresh(self) -> None:
        self.refreshed += 1
        if self.error is not None:
            raise self.error

    async def resolve(self, tag: str, client: str = "") -> PinnedSource:
        self.asked.append(tag)
        self.clients.append(client)
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        return self._pinned

    def current(self, tag: str) -> PinnedSource | None:
        return self._pinned if (self.gate, self.error) == (None, None) else None

    @property
    def _pinned(self) -> PinnedSource:
        pin = FolderContents("/some/set", self.revision)
        return PinnedSource(LocalFolder("/some/set"), pin, stale=self.stale)

    async def tags(self) -> list[str]:
        return ["latest"]

    async def date(self, pinned: PinnedSource) -> int | None:
        return self.committed

    async def unchanged(self, pinned: PinnedSource) -> bool:
        return not self.edited

    async def stop(self) -> None:
        pass


@attrs.define
class FakePackers:
    """Packs a layer as the text of its job, and makes root file systems as packing processes do.

    :ivar made: the root file systems that were made: name → entry.
    :ivar error: what packing fails with.
    :ivar gate: while it is set, packing never ends, as long as it is not cancelled.
    """

    jobs: list[PackJob] = attrs.Factory(list)
    made: list[dict[str, Entry]] = attrs.Factory(list)
    error: Callable[[PackJob], NixeryError | None] = lambda job: None
    gate: Deferred[PackedLayer] | None = None

    def prepare(self) -> None:
        pass

    def run(self, job: PackJob | FurnishJob) -> Deferred[Any]:
        return self._furnish(job) if isinstance(job, FurnishJob) else self._pack(job)

    def _furnish(self, job: FurnishJob) -> Deferred[Any]:
        with open(job.sink, "wb") as sink:
            document = json.loads(json.dumps({"id": 1, **job.to_json()}))
            request = pickle.loads(a2b_base64(document["furnish"]))
            results = [job.read(answer) for answer in request.answers(sink.write)]
        self.made.append({entry.name: entry for entry in read_entries(job.sink)})
        return maybeDeferred(_result, results[-1])

    def _pack(self, job: PackJob) -> Deferred[PackedLayer]:
        self.jobs.append(job)
        if self.gate is not None:
            return self.gate
        if error := self.error(job):
            failed: Deferred[PackedLayer] = Deferred()
            failed.errback(error)
            return failed
        entries = list(read_entries(job.entries))
        text = repr((attrs.evolve(job, sink="", entries=None), entries))
        content = text.encode("utf-8", "surrogateescape")
        with open(job.sink, "wb") as sink:
            sink.write(content)
        digest = Digest.of(content)
        return succeed(PackedLayer(digest, digest, len(content), len(content)))


def _result(result: Any) -> Any:
    if isinstance(result, NixeryError):
        raise result
    return result


@attrs.define
class Parts:
    """A builder over fakes, and the fakes.

    :ivar meant: name → what is suggested for it.
    """

    nix: FakeNix
    resolver: FakeResolver
    packers: FakePackers
    storage: MemoryStorage
    history: History
    cache: Cache
    builder: Builder
    meant: dict[str, list[Suggestion]]

    def again(
        self,
        budget: int = 94,
        limits: BuildLimits | None = None,
        naming: Naming | None = None,
        systems: Sequence[str] = (AMD64,),
    ) -> "Parts":
        """A new builder, as after a restart, over the same storage."""
        folder, storage = self.nix.folder, self.storage
        return make_parts(folder, storage, budget, limits, naming=naming, systems=systems)


def make_parts(
    folder: str,
    storage: MemoryStorage | None = None,
    budget: int = 94,
    limits: BuildLimits | None = None,
    clock: Any = reactor,
    popularity: Callable[[], Popularity] = dict,
    hints: bool = True,
    naming: Naming | None = None,
    systems: Sequence[str] = (AMD64,),
) -> Parts:
    """Put a builder together.

    :param clock: a reactor.
    :param popularity: gives the table that layers are grouped by.
    :param naming: what images say of their source.
    """
    nix, resolver, packers = FakeNix(folder), FakeResolver(), FakePackers()
    storage, limits = storage or MemoryStorage(), limits or BuildLimits()
    cache = Cache(storage)
    layers = LayerMaker(storage, cache, nix, packers, "fast")  # type: ignore[arg-type]
    history = History(reactor, os.path.join(folder, "history"))
    size, numbers = limits.closure_size, itertools.count()
    maker = ImageMaker(
        clock,
        resolver,
        nix,
        storage,
        layers,
        budget,
        popularity,
        size,
        lambda: os.path.join(folder, f"entries{next(numbers)}"),
        naming or Naming(),
    )
    meant: dict[str, list[Suggestion]] = {}
    builder = Builder(
        clock,
        resolver,
        storage,
        cache,
        maker,
        history,
        limits,
        Hints(lambda name: meant.get(name, []), for_all=hints),
        systems,
    )
    return Parts(nix, resolver, packers, storage, history, cache, builder, meant)
