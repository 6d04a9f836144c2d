"""The registry: all parts put together, and what they do at the turns of its life."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.access.configured import make_access
from nixery.access.watched import Watch, Watched
from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.failures import Hints
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.confinement import make_commands, make_evaluator
from nixery.first_look import FirstLook
from nixery.history.archive import HistoryLimits
from nixery.history.history import History
from nixery.http.listening import Listening
from nixery.http.request import Trusted
from nixery.http.tls import Certificate
from nixery.interfaces import Provenance
from nixery.model.example import USUAL
from nixery.model.popularity import Popularity
from nixery.model.source import PinnedSource
from nixery.nix.collecting import Collector
from nixery.nix.gc_roots import KeptRoots
from nixery.nix.popularity_table import PopularityTable
from nixery.nix.process import Processes
from nixery.nix.realise import Nix
from nixery.ownership import claim
from nixery.packing.workers import Packers
from nixery.parts import (
    child_environment,
    make_agent,
    make_git,
    make_resolver,
    make_sources,
    make_storage,
)
from nixery.search.catalogue import Catalogue
from nixery.search.lister import Indexer
from nixery.service import Phases, RegistryService, Served
from nixery.settings import Settings
from nixery.starts import Starts
from nixery.terminal import Terminal
from nixery.trimmer import Trimmer
from nixery.watchers import Watchers
from nixery.web.auth import Auth, TokenServer
from nixery.web.builds import BuildsApi
from nixery.web.operations import OperationsSite
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.site import QuietSite, make_site

_SWITCH = 0.0005
"""Seconds that the reactor waits for a thread that computes, a search say: a request needs its
turn several times. Python's own setting is ten times as much."""


class Registry:
    """The parts of the daemon.

    :ivar site: what is served to clients.
    :ivar operations: what is served to machines that watch, at an endpoint of its own.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        environ: Mapping[str, str],
        certificates: Sequence[Watched[Certificate]] = (),
    ) -> None:
        """
        :param reactor: provides what all parts need of one.
        :param environ: the daemon's environment: children get what is not private of it.
        :param certificates: those that TLS is spoken with.
        """
        self._reactor = reactor
        self._settings = settings
        state = settings.state
        self._agent = make_agent(reactor)
        given, memory = child_environment(environ, state), settings.builds.memory
        starts = Starts(reactor)
        self._processes = Processes(starts, reactor, given, memory=memory)
        commands = make_commands(settings, environ, self._processes)
        self._evaluator = make_evaluator(settings, environ, self._processes, commands)
        self._git = make_git(reactor, settings, self._processes)
        self._sources = make_sources(reactor, settings, commands, self._git)
        self._resolver = make_resolver(reactor, settings, self._git, commands)
        disk = settings.disk
        kept = KeptRoots(reactor, commands, os.path.join(state, "kept"), disk.nix_keep_days)
        self._collector = Collector(reactor, commands, kept, disk.nix_min_free)
        limit, traces = settings.nix_timeout, settings.traces
        self._nix = Nix(
            reactor, commands, self._sources, self._evaluator, state, limit, kept, traces
        )
        self._first_look = FirstLook(
            reactor, commands, self._evaluator, self._sources, self._latest
        )
        self._storage = make_storage(reactor, self._agent, settings, environ)
        reports = os.path.join(state, "reports")
        self._packers = Packers(starts, reactor, settings.packers, reports=reports)
        folders = {"state": state, "nix": commands.store or "/nix/store"}
        if settings.bucket is None:
            folders["storage"] = settings.storage_path
        private = settings.operations is not None
        self._watchers = Watchers(
            reactor,
            self._storage,
            self._provenance,
            self._first_look.offered,
            self._first_look.trial,
            commands,
            folders,
            private,
        )
        limits = HistoryLimits(settings.history_days * 86400, settings.history_size * 1_000_000)
        folder = os.path.join(state, "history")
        self._history = History(reactor, folder, limits, on_end=self._watchers.built)
        self._popularity = self._make_popularity()
        evaluator, processes = self._evaluator, self._processes
        indexer = Indexer(reactor, processes, commands, self._sources, evaluator)
        folder = os.path.join(state, "search")
        self._catalogue = Catalogue(reactor, self._resolver, indexer, folder)
        cache = Cache(self._storage)
        self._builder = self._make_builder(cache)
        access = make_access(reactor, settings.access)
        self._watch = Watch(reactor, [*access.watched, *certificates])
        self.site = self._make_site(Auth(access.guard, _token_server(settings)))
        bounds = self.site.bounds
        self._trimmer = Trimmer(reactor, lambda: bounds.connections.open)
        self._watchers.read_from(self._builder, cache, bounds, self._processes, self._packers)
        self._watchers.read_from_disk(self._storage, self._collector)
        self._watchers.read_from_certificates(lambda: [each.value.expires for each in certificates])
        self.operations = OperationsSite(self._watchers.operations, reactor, settings.http)

    def _make_builder(self, cache: Cache) -> Builder:
        reactor, settings, storage = self._reactor, self._settings, self._storage
        layers = LayerMaker(storage, cache, self._nix, self._packers, settings.compression)
        maker = ImageMaker(
            reactor,
            self._resolver,
            self._nix,
            storage,
            layers,
            settings.layer_budget,
            self._counts,
            settings.builds.closure_size,
            settings.naming,
        )
        history, limits = self._history, settings.builds
        # Where not everybody may pull everything, not all names are for everybody.
        hints = Hints(self._catalogue.suggest, self._tells_names)
        return Builder(reactor, self._resolver, storage, cache, maker, history, limits, hints)

    def _make_site(self, auth: Auth) -> QuietSite:
        """The HTTP server, with as much of builds as settings allow to be seen."""
        reactor, settings, builder = self._reactor, self._settings, self._builder
        builds, packages, history, logs = None, None, None, settings.pages == "all"
        if settings.pages != "off":
            history = self._history
            builds = BuildsApi(reactor, self._history, logs, auth)
            packages = PackagesApi(reactor, self._catalogue, auth)
        pages = PagesApi(reactor, builder, history, logs, auth, self._example)
        trusted = Trusted.parse(settings.proxies)
        hold, storage, limits = settings.hold, self._storage, settings.http
        return make_site(
            reactor,
            builder,
            storage,
            hold,
            pages,
            builds,
            packages,
            auth,
            trusted,
            limits,
            self._watchers.metrics,
            self._watchers.operations if settings.operations is None else None,
        )

    async def _provenance(self) -> Provenance:
        return await self._builder.provenance()

    def _example(self) -> str:
        """The name of an image that can be pulled, as far as that is for everybody to know."""
        return self._first_look.example if self._tells_names else USUAL

    @property
    def _tells_names(self) -> bool:
        """Whether all names are for everybody: where not everybody may pull everything, they are
        not."""
        access = self._settings.access
        return access.rules is None and access.jwt_key is None

    async def _latest(self) -> PinnedSource:
        return await self._builder.latest()

    async def look(self) -> str | None:
        """Wait until everything is found to work.

        :return: the name of an image to try, if there is one.
        """
        return await self._first_look.until(self._watchers.readiness)

    async def prepare(self) -> None:
        """Start the parts, before the first request is taken."""
        self._trimmer.start()
        sys.setswitchinterval(_SWITCH)
        self._watch.start()
        await self._claim_folders()
        await self._storage.start()
        await self._history.start()
        await self._evaluator.start()
        if self._history.alone:  # what is unfinished may be another daemon's
            self._git.start()
        self._nix.start()
        self._collector.start()
        await self._load_popularity()
        self._watchers.start()

    async def _claim_folders(self) -> None:
        """Mark the folders that this daemon writes to as its own.

        :raises NotOurs: if one of them is somebody else's.
        """
        pool, known = self._reactor.getThreadPool(), self._settings.paths
        for path in self._settings.folders.values():
            fault = await deferToThreadPool(self._reactor, pool, claim, path, known)
            if fault is not None:
                self._log.warn(
                    "{path} can't be marked as Nixery's: {error}", path=path, error=fault
                )

    async def reload(self) -> None:
        """Read again what operators may have changed: users, rules, certificates, popularity."""
        await self._watch.look(force=True)
        await self._load_popularity()

    async def release(self) -> None:
        """Let all go who wait for builds, and end these, which takes a moment."""
        self._watchers.readiness.stopping = True
        releasing = Deferred.fromCoroutine(self.site.release(self._settings.handover))
        self._builder.give_up()
        await releasing

    async def drain(self) -> None:
        """Wait until all clients are answered."""
        await self.site.drain()

    async def finish(self) -> None:
        """End the parts."""
        self._trimmer.stop()
        self._watch.stop()
        self._watchers.stop()
        await self._builder.stop()
        await self._collector.stop()
        await self._catalogue.stop()
        await self._first_look.stop()
        await self._sources.stop()
        await self._resolver.stop()
        await self._history.stop()
        await self._processes.stop()
        await self._packers.stop()
        self._storage.stop()
        await self.site.leave()

    def _make_popularity(self) -> PopularityTable | None:
        url = self._settings.popularity_url
        if url is None:
            return None
        copy = os.path.join(self._settings.state, "popularity.json")
        return PopularityTable(self._reactor, self._agent, url, copy)

    def _counts(self) -> Popularity:
        return {} if self._popularity is None else self._popularity.counts

    async def _load_popularity(self) -> None:
        if self._popularity is not None:
            await self._popularity.load()


def make_service(
    reactor: Any,
    settings: Settings,
    environ: Mapping[str, str],
    listening: Listening,
    operations: Listening | None = None,
    terminal: Terminal | None = None,
) -> RegistryService:
    """The daemon.

    :param listening: where it is.
    :param operations: where health and metrics are to be had; none for the same endpoint.
    :param terminal: is told how the start ended.
    """
    ends = [each for each in (listening, operations) if each is not None]
    certificates = [each.certificate for each in ends if each.certificate is not None]
    registry = Registry(reactor, settings, environ, certificates)
    phases = Phases(
        prepare=registry.prepare,
        look=registry.look,
        reload=registry.reload,
        release=registry.release,
        drain=registry.drain,
        finish=registry.finish,
    )
    served = [Served(listening.endpoint, registry.site)]
    if operations is not None:
        served.append(Served(operations.endpoint, registry.operations))
    return RegistryService(reactor, served, phases, settings.drain, environ, terminal)


def _token_server(settings: Settings) -> TokenServer | None:
    audience = settings.access.jwt_audience
    if settings.token_server is None or audience is None:
        return None
    return TokenServer(settings.token_server, audience)
