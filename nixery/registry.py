"""The registry: all parts put together, and what they do at the turns of its life."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IStreamServerEndpoint

import nixery
from nixery.access.files import make_access
from nixery.access.watched import Watch, Watched
from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.catalogue import Catalogue
from nixery.builds.history import History, Limits
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.interfaces import Provenance
from nixery.memory import Trimmer
from nixery.nix.collecting import Collector
from nixery.nix.commands import Commands
from nixery.nix.index import Indexer
from nixery.nix.keeping import KeptRoots
from nixery.nix.popularity import PopularityTable
from nixery.nix.process import Processes
from nixery.nix.realise import Nix
from nixery.nix.store import find_expressions, find_store
from nixery.packing.workers import Packers
from nixery.parts import (
    child_environment,
    make_agent,
    make_git,
    make_resolver,
    make_sources,
    make_storage,
)
from nixery.service import Phases, RegistryService, Served
from nixery.settings import Settings
from nixery.watchers import Watchers
from nixery.web.auth import Auth, TokenServer
from nixery.web.builds import BuildsApi
from nixery.web.operations import OperationsSite
from nixery.web.packages import PackagesApi
from nixery.web.pages.site import PagesApi
from nixery.web.request import Trusted
from nixery.web.site import QuietSite, make_site
from nixery.web.tls import Certificate

_SWITCH = 0.0005
"""Seconds that the reactor waits for a thread that computes, a search say: a request needs its
turn several times. Python's own setting is ten times as much."""


@attrs.frozen
class Listening:
    """Where something is served.

    :param certificate: what TLS is spoken with there, if it is.
    """

    endpoint: IStreamServerEndpoint
    certificate: Watched[Certificate] | None = None


class Registry:
    """The parts of the daemon.

    :ivar site: what is served to clients.
    :ivar operations: what is served to machines that watch, at an endpoint of its own.
    """

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
        store = find_store(settings.nix_store, state, environ)
        expressions = find_expressions(os.path.dirname(os.path.abspath(nixery.__file__)))
        self._agent = make_agent(reactor)
        given, memory = child_environment(environ, state), settings.builds.memory
        self._processes = Processes(reactor, given, memory=memory)
        commands = Commands(self._processes, store)
        self._git = make_git(reactor, settings, self._processes)
        self._sources = make_sources(reactor, settings, commands, self._git)
        self._resolver = make_resolver(reactor, settings, self._git, commands)
        disk = settings.disk
        kept = KeptRoots(reactor, commands, os.path.join(state, "kept"), disk.nix_keep_days)
        self._collector = Collector(reactor, commands, kept, disk.nix_min_free)
        limit = settings.nix_timeout
        self._nix = Nix(reactor, commands, self._sources, expressions, state, limit, kept)
        self._storage = make_storage(reactor, self._agent, settings, environ)
        self._packers = Packers(reactor, reactor, settings.packers)
        folders = {"state": state, "nix": store or "/nix/store"}
        if settings.bucket is None:
            folders["storage"] = settings.storage_path
        self._watchers = Watchers(reactor, self._storage, self._provenance, commands, folders)
        limits = Limits(settings.history_days * 86400, settings.history_size * 1_000_000)
        folder = os.path.join(state, "history")
        self._history = History(reactor, folder, limits, on_end=self._watchers.built)
        self._popularity: dict[str, int] = {}  # filled before the first request is taken
        cache = Cache(self._storage)
        self._builder = self._make_builder(cache)
        indexer = Indexer(reactor, self._processes, commands, self._sources, expressions)
        folder = os.path.join(state, "search")
        self._catalogue = Catalogue(reactor, self._resolver, indexer, folder)
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
            self._popularity,
            settings.builds.closure_size,
        )
        history, limits = self._history, settings.builds
        # Where not everybody may pull everything, not all names are for everybody.
        hints = settings.access.rules is None and settings.access.jwt_key is None
        return Builder(reactor, self._resolver, storage, cache, maker, history, limits, hints)

    def _make_site(self, auth: Auth) -> QuietSite:
        """The HTTP server, with as much of builds as settings allow to be seen."""
        reactor, settings, builder = self._reactor, self._settings, self._builder
        pages, builds, packages = PagesApi(reactor, builder, None, False, auth), None, None
        if settings.pages != "off":
            logs = settings.pages == "all"
            pages = PagesApi(reactor, builder, self._history, logs, auth)
            builds = BuildsApi(reactor, self._history, logs, auth)
            packages = PackagesApi(reactor, self._catalogue, auth)
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

    async def prepare(self) -> None:
        """Start the parts, before the first request is taken."""
        self._trimmer.start()
        sys.setswitchinterval(_SWITCH)
        self._watch.start()
        await self._storage.start()
        self._git.start()
        await self._history.start()
        self._nix.start()
        self._collector.start()
        await self._load_popularity()
        self._watchers.start()

    async def reload(self) -> None:
        """Read again what operators may have changed: users, rules, certificates, popularity."""
        await self._watch.look(force=True)
        await self._load_popularity()

    async def drain(self) -> None:
        """Wait until all clients are answered."""
        self._watchers.readiness.stopping = True
        # Whoever holds the socket hands those who ask again to the next daemon.
        await self.site.drain(handover=self._settings.endpoint.startswith("systemd:"))

    async def finish(self) -> None:
        """End the parts."""
        self._trimmer.stop()
        self._watch.stop()
        self._watchers.stop()
        await self._builder.stop()
        await self._collector.stop()
        await self._catalogue.stop()
        await self._sources.stop()
        await self._resolver.stop()
        await self._history.stop()
        await self._processes.stop()
        await self._packers.stop()
        self._storage.stop()

    async def _load_popularity(self) -> None:
        url = self._settings.popularity_url
        if url is not None:
            copy = os.path.join(self._settings.state, "popularity.json")
            counts = await PopularityTable(self._reactor, self._agent, url, copy).load()
            self._popularity.clear()
            self._popularity.update(counts)


def make_service(
    reactor: Any,
    settings: Settings,
    environ: Mapping[str, str],
    listening: Listening,
    operations: Listening | None = None,
) -> RegistryService:
    """The daemon.

    :param listening: where it is.
    :param operations: where health and metrics are to be had; none for the same endpoint.
    """
    ends = [each for each in (listening, operations) if each is not None]
    certificates = [each.certificate for each in ends if each.certificate is not None]
    registry = Registry(reactor, settings, environ, certificates)
    phases = Phases(registry.prepare, registry.reload, registry.drain, registry.finish)
    served = [Served(listening.endpoint, registry.site)]
    if operations is not None:
        served.append(Served(operations.endpoint, registry.operations))
    return RegistryService(reactor, served, phases, settings.drain, environ)


def _token_server(settings: Settings) -> TokenServer | None:
    audience = settings.access.jwt_audience
    if settings.token_server is None or audience is None:
        return None
    return TokenServer(settings.token_server, audience)
