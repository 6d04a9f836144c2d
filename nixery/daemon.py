"""The daemon: all parts made and put together, and the order in which they start."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.client import Agent, HTTPConnectionPool

from nixery.access.configured import make_access
from nixery.access.watched import Watch, Watched
from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.hints import Hints
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.first_look import FirstLook
from nixery.history.history import History, Limits
from nixery.history.record import Record
from nixery.http.listening import Listening
from nixery.http.request import Trusted
from nixery.http.tls import Certificate, Expiry
from nixery.interfaces import Provenance
from nixery.lifecycle import Component, InOrder
from nixery.model.example import USUAL
from nixery.model.popularity import Popularity
from nixery.model.source import PinnedSource
from nixery.nix.collecting import Collector
from nixery.nix.gc_roots import KeptRoots
from nixery.nix.popularity_table import PopularityTable
from nixery.nix.realise import Nix
from nixery.nix_parts import NixParts
from nixery.ownership import claim
from nixery.packing.workers import Packers
from nixery.reactor import in_thread
from nixery.requirements import version
from nixery.search.catalogue import Catalogue
from nixery.search.lister import Indexer
from nixery.service import RegistryService, SiteAt
from nixery.settings import Settings
from nixery.starts import Starts
from nixery.storage.filesystem import FilesystemStorage
from nixery.storage.housekeeping import Bounds
from nixery.terminal import Terminal
from nixery.trimmer import Trimmer
from nixery.watching.checks import disk_check, nix_check, source_check, storage_check
from nixery.watching.disks import Disks
from nixery.watching.lag import LagMeter
from nixery.watching.metrics import IMeasured, Metrics
from nixery.watching.readiness import Readiness
from nixery.web.auth import Auth, TokenServer
from nixery.web.builds import BuildsApi
from nixery.web.operations import Operations, OperationsSite
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.site import QuietSite, make_site

_SWITCH = 0.0005
"""Seconds that the reactor waits for a thread that computes, a search say: a request needs its
turn several times. Python's own setting is ten times as much."""
_CONNECTIONS = 16  # that are kept to one host


class Registry:
    """The parts of the daemon, of which none is started yet.

    :ivar site: what is served to clients.
    :ivar operations: what is served to machines that watch, at an endpoint of its own.
    :ivar parts: has all parts started and stopped.
    :ivar metrics: what is counted.
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
        self._reactor, self._settings = reactor, settings
        state, disk, agent = settings.state, settings.disk, make_agent(reactor)
        self.metrics = Metrics(version())
        self._nix_parts = parts = NixParts(reactor, settings, environ)
        commands, evaluator, sources = parts.commands, parts.evaluator, parts.sources
        kept = KeptRoots(reactor, commands, os.path.join(state, "kept"), disk.nix_keep_days)
        self._collector = Collector(reactor, commands, kept, disk.nix_min_free)
        self._nix = Nix(
            reactor,
            commands,
            sources,
            evaluator,
            state,
            settings.images.nix_timeout,
            kept,
            settings.shown.traces,
        )
        self._storage = make_storage(reactor, agent, settings, environ)
        reports, packers = os.path.join(state, "reports"), settings.images.packers
        self._packers = Packers(Starts(reactor), reactor, packers, reports=reports)
        self._popularity = None
        if (url := settings.images.popularity_url) is not None:
            copy = os.path.join(state, "popularity.json")
            self._popularity = PopularityTable(reactor, agent, url, copy)
        self._history = History(
            reactor,
            os.path.join(state, "history"),
            Limits(settings.history.seconds, settings.history.bytes),
            on_end=self._built,
        )
        self._catalogue = Catalogue(
            reactor,
            parts.resolver,
            Indexer(reactor, parts.processes, commands, sources, evaluator),
            os.path.join(state, "search"),
        )
        cache = Cache(self._storage)
        self._builder = self._make_builder(cache)
        self._first_look = FirstLook(reactor, commands, evaluator, sources, self._latest)
        disks = {"state": state, "nix": commands.store or "/nix/store", **settings.folders}
        self._readiness = self._make_readiness(disks)
        shared = settings.operations.endpoint is None
        operations = Operations(self._readiness, self.metrics.registry, private=not shared)
        self.operations = OperationsSite(operations, reactor, settings.http)
        access = make_access(reactor, settings.access)
        auth = Auth(access.guard, _token_server(settings))
        self.site = self._make_site(auth, operations if shared else None)
        self._watch = Watch(reactor, [*access.watched, *certificates])
        lag, room = LagMeter(reactor, self.metrics.late), Disks(reactor, disks)
        self.parts = InOrder(*self._in_order(), self._watch, lag, room)
        measured: list[IMeasured] = [
            *(self._builder.queue, cache, self.site.bounds, parts.processes, self._packers),
            *(room, lag, self._collector, Expiry(certificates)),
        ]
        if isinstance(self._storage, FilesystemStorage):
            measured.append(self._storage.housekeeping)
        self.metrics.read_from(measured)

    def _make_builder(self, cache: Cache) -> Builder:
        reactor, settings, storage = self._reactor, self._settings, self._storage
        resolver, images = self._nix_parts.resolver, settings.images
        layers = LayerMaker(storage, cache, self._nix, self._packers, images.compression)
        maker = ImageMaker(
            reactor,
            resolver,
            self._nix,
            storage,
            layers,
            images.layer_budget,
            self._counts,
            settings.builds.closure_size,
            settings.naming,
        )
        # Where not everybody may pull everything, not all names are for everybody.
        hints = Hints(self._catalogue.suggest, self._tells_names)
        history, limits = self._history, settings.builds
        return Builder(reactor, resolver, storage, cache, maker, history, limits, hints)

    def _make_readiness(self, disks: Mapping[str, str]) -> Readiness:
        checks = {
            "storage": storage_check(self._storage),
            "nix": nix_check(self._nix_parts.commands.valid),
            "builds": self._first_look.trial,
            "source": source_check(self._provenance, self._first_look.offered),
            "disk": disk_check(self._reactor, disks),
        }
        return Readiness(self._reactor, checks)

    def _make_site(self, auth: Auth, operations: Operations | None) -> QuietSite:
        """The HTTP server, with as much of builds as settings allow to be seen.

        :param operations: tells how the daemon is; none where it has an endpoint of its own.
        """
        reactor, settings, builder = self._reactor, self._settings, self._builder
        builds, packages, history, logs = None, None, None, settings.shown.pages == "all"
        if settings.shown.pages != "off":
            history = self._history
            builds = BuildsApi(reactor, self._history, logs, auth)
            packages = PackagesApi(reactor, self._catalogue, auth)
        return make_site(
            reactor,
            builder,
            self._storage,
            settings.shown.hold,
            PagesApi(reactor, builder, history, logs, auth, self._example),
            builds,
            packages,
            auth,
            Trusted.parse(settings.transport.proxies),
            settings.http,
            self.metrics,
            operations,
        )

    def _in_order(self) -> list[Component | Trimmer]:
        """The parts, each behind those that it needs, as services."""
        nix, history = self._nix_parts, self._history

        def start_git() -> None:
            if history.alone:  # what is unfinished may be another daemon's
                nix.git.start()

        connections = self.site.bounds.connections
        return [
            Trimmer(self._reactor, lambda: connections.open),  # before there are threads
            Component(lambda: sys.setswitchinterval(_SWITCH)),
            Component(self._claim_folders, self.site.leave),
            Component(self._storage.start, self._storage.stop),
            Component(stop=self._packers.stop),
            Component(stop=nix.processes.stop),
            Component(history.start, history.stop),
            Component(stop=nix.resolver.stop),
            Component(stop=nix.sources.stop),
            Component(nix.evaluator.start),
            Component(start_git),
            Component(self._nix.start),
            Component(stop=self._first_look.stop),
            Component(stop=self._catalogue.stop),
            Component(self._collector.start, self._collector.stop),
            Component(self._load_popularity),
            Component(stop=self._builder.stop),
        ]

    async def _claim_folders(self) -> None:
        """Mark the folders that this daemon writes to as its own.

        :raises NotOurs: if one of them is somebody else's.
        """
        for path in self._settings.folders.values():
            fault = await in_thread(self._reactor, claim, path, self._settings.paths)
            if fault is not None:
                self._log.warn(
                    "{path} can't be marked as Nixery's: {error}", path=path, error=fault
                )

    async def look(self) -> str | None:
        """Wait until everything is found to work.

        :return: the name of an image to try, if there is one.
        """
        return await self._first_look.until(self._readiness)

    async def reload(self) -> None:
        """Read again what operators may have changed: users, rules, certificates, popularity."""
        await self._watch.look(force=True)
        await self._load_popularity()

    async def release(self) -> None:
        """Let all go who wait for builds, and end these, which takes a moment."""
        self._readiness.stopping = True
        releasing = Deferred.fromCoroutine(self.site.release(self._settings.handover))
        self._builder.give_up()
        await releasing

    async def drain(self) -> None:
        """Wait until all clients are answered."""
        await self.site.drain()

    async def _load_popularity(self) -> None:
        if self._popularity is not None:
            await self._popularity.load()

    def _counts(self) -> Popularity:
        return {} if self._popularity is None else self._popularity.counts

    def _built(self, record: Record) -> None:
        timing = record.timing
        self.metrics.built(record.outcome, timing.phases, timing.layers)

    async def _provenance(self) -> Provenance:
        return await self._builder.provenance()

    async def _latest(self) -> PinnedSource:
        return await self._builder.latest()

    def _example(self) -> str:
        """The name of an image that can be pulled, as far as that is for everybody to know."""
        return self._first_look.example if self._tells_names else USUAL

    @property
    def _tells_names(self) -> bool:
        """Whether all names are for everybody: where not everybody may pull everything, they are
        not."""
        access = self._settings.access
        return access.rules is None and access.jwt_key is None


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
    sites = [SiteAt(listening.endpoint, registry.site)]
    if operations is not None:
        sites.append(SiteAt(operations.endpoint, registry.operations))
    return RegistryService(reactor, sites, registry, settings.stopping.drain, environ, terminal)


def make_agent(reactor: Any) -> Agent:
    """What HTTP requests go through, keeping connections for a minute."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = _CONNECTIONS
    pool.cachedConnectionTimeout = 60
    return Agent(reactor, connectTimeout=10, pool=pool)


def make_storage(reactor: Any, agent: Agent, settings: Settings, environ: Mapping[str, str]) -> Any:
    """Where images are kept, not started yet."""
    chosen = settings.bucket
    if chosen is None or chosen.name is None:
        disk = settings.disk
        bounds = Bounds(disk.storage_max, disk.storage_grace, disk.scrub_days)
        return FilesystemStorage(reactor, settings.storage_path, bounds)
    # Google's libraries take a quarter of a second and 15 MB.
    from nixery.storage.gcs.making import BucketSettings
    from nixery.storage.gcs.making import make_storage as make_gcs_storage
    from nixery.storage.gcs.storage import Options as BucketOptions

    options = BucketOptions(redirect=chosen.redirect)
    bucket = BucketSettings(
        chosen.name, chosen.signing_key, chosen.signing_account, chosen.url_lifetime, options
    )
    return make_gcs_storage(reactor, agent, bucket, environ)


def _token_server(settings: Settings) -> TokenServer | None:
    access = settings.access
    if access.jwt_realm is None or access.jwt_audience is None:
        return None
    return TokenServer(access.jwt_realm, access.jwt_audience)
