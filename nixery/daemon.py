"""The daemon: all parts made and put together, and the order in which they start."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, cast

from klein import Klein
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nixery.access.api_token import OperatorAccess
from nixery.access.configured import make_access
from nixery.access.watched import Watch, Watched
from nixery.attest.provenance import builder_at
from nixery.builds.builder import Builder
from nixery.builds.failures import Hints
from nixery.builds.known_images import INTERVAL
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.builds.prebuild import Prebuild
from nixery.builds.reproducing import Reproducer
from nixery.first_look import FirstLook
from nixery.history.history import History
from nixery.history.record import Record
from nixery.http.asked_head import SECRET
from nixery.http.known_answers import AGE
from nixery.http.listening import Listening
from nixery.http.request import Trusted
from nixery.http.tls import Certificate, Expiry
from nixery.image_parts import ImageParts
from nixery.lifecycle import Component, InOrder, Timer
from nixery.model.example import USUAL
from nixery.model.open_telemetry import collector_of
from nixery.model.popularity import Popularity
from nixery.nix.collecting import Collector
from nixery.nix.gc_roots import KeptRoots
from nixery.nix.realise import Nix
from nixery.nix_parts import NixParts
from nixery.ownership import claim_all
from nixery.packing.workers import Packers
from nixery.reactor import in_thread
from nixery.requirements import version
from nixery.search.catalogue import Catalogue
from nixery.search.lister import Indexer
from nixery.service import RegistryService, SiteAt
from nixery.settings import Settings
from nixery.starts import Starts
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from nixery.storage.filesystem.staging import Staging
from nixery.stores import make_agent, make_storage
from nixery.terminal import Terminal
from nixery.trimmer import Trimmer
from nixery.verifying import make_reproducer
from nixery.watching.checks import disk_check, nix_check, source_check, storage_check
from nixery.watching.disks import Disks
from nixery.watching.lag import LagMeter
from nixery.watching.metrics import IMeasured, Metrics
from nixery.watching.readiness import Readiness
from nixery.web.auth import Auth, TokenServer
from nixery.web.builds import BuildsApi
from nixery.web.documents import DocumentsApi
from nixery.web.hooks import HooksApi
from nixery.web.images import ImagesApi
from nixery.web.operations import Operations, OperationsSite
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.pages.docs_api import DocsApi
from nixery.web.pages.images_api import ImagePages
from nixery.web.pages.start_api import StartApi
from nixery.web.site import QuietSite, make_site
from nixery.web.stored_images import StoredImages
from nixery.web.verification_api import VerificationApi

if TYPE_CHECKING:
    from nixery.nix.popularity_table import PopularityTable
    from nixery.serving.responders import Responders
    from nixery.watching.notifications import Notifications
    from nixery.watching.traces import Traces

T = TypeVar("T")

_SWITCH = 0.0005
"""Seconds that the reactor waits for a thread that computes, a search say: a request needs its
turn several times. Python's own setting is ten times as much."""
_SOONEST = 10.0
"""Seconds between two looks for a new revision of which images are made in advance, at least."""


class Registry:
    """The parts of the daemon, none of them started yet.

    :ivar site: serves clients.
    :ivar operations: serves health and metrics, at an endpoint of its own.
    :ivar parts: starts and stops all parts.
    :ivar metrics: all metrics.
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
        :param environ: the daemon's environment; children see the part of it that is not private.
        :param certificates: those in use for TLS.
        """
        self._reactor, self._settings, self._environ = reactor, settings, environ
        self.parts, self.metrics = InOrder(), Metrics(version())
        self._measured: list[IMeasured] = []
        self._notifications: Notifications | None = None
        # First, since what it sets holds for threads that are started later.
        self._add(Trimmer(reactor, lambda: self.site.bounds.connections.open))
        self._add(Component(lambda: sys.setswitchinterval(_SWITCH)))
        self._traces = self._make_traces()
        folders = settings.folders.values()
        claimed = Component(
            lambda: claim_all(reactor, folders, settings.paths), lambda: self.site.leave()
        )
        self._add(claimed)
        self._make_stores()
        self._nix = self._make_nix()
        self._stored = stored = ImageParts(reactor, settings, self._storage)
        for each in (stored.cache, stored.images, stored.artifacts):
            self._add(each)
        self._add(Timer(reactor, INTERVAL, stored.look))
        self._builder = self._make_builder()
        self._reproducer = self._add(self._make_reproducer())
        self._reproducer.attest = stored.attest
        self._make_watchers()
        access = make_access(reactor, settings.access)
        self._responders = self._make_responders()
        changing = nullcontext if self._responders is None else self._responders.changing
        self._watch = self._add(Watch(reactor, [*access.watched, *certificates], changing))
        self._add(Expiry(certificates))
        operators = OperatorAccess(reactor, settings.state, access.api_token)
        self._operators, self._access = self._add(operators), access
        auth = Auth(access.guard, _token_server(settings))
        self._make_ahead(auth)
        self.site = self._make_site(auth)
        self._add(self.site.bounds)
        if self._responders is not None:
            from nixery.http.lending import lend

            lend(self.site, self._responders)
        self._measured.append(self.site.known)
        self._add(Timer(reactor, AGE, self.site.known.sweep, now=False))
        self.metrics.read_from(self._measured)

    def _add(self, part: T) -> T:
        """Add a part, behind those that it needs: its ``start()``, if it has one, is called after
        theirs, its ``stop()`` before theirs, and its ``readings()`` are among the metrics."""
        service: Any = part
        if not IService.providedBy(part):
            service = Component(getattr(part, "start", None), getattr(part, "stop", None))
        service.setServiceParent(self.parts)
        if hasattr(part, "readings"):
            self._measured.append(cast(IMeasured, part))
        return part

    def _make_traces(self) -> "Traces | None":
        """What makes traces, if the environment names a collector for them."""
        if collector_of(self._environ) is None:
            return None
        # The library takes time and memory.
        from nixery.watching.traces import Traces

        return self._add(Traces(self._reactor, version(), self._environ))

    def _make_stores(self) -> None:
        """Make the storage of images, and the history of builds."""
        reactor, settings = self._reactor, self._settings
        self._storage = self._add(make_storage(reactor, settings, self._environ))
        if isinstance(self._storage, FilesystemStorage):
            self._measured.append(self._storage.housekeeping)
        folder = os.path.join(settings.state, "history")
        self._history = self._add(History(reactor, folder, settings.history, on_end=self._built))

    def _make_nix(self) -> Nix:
        """Make the parts that find, build, keep and list packages."""
        reactor, settings, state = self._reactor, self._settings, self._settings.state
        self._nix_parts = parts = NixParts(reactor, settings, self._environ)
        commands, evaluator, sources = parts.commands, parts.evaluator, parts.sources
        for each in (parts.processes, parts.resolver, sources, evaluator):
            self._add(each)
        # If not alone, what is unfinished may be another daemon's.
        self._add(Component(lambda: parts.git.start() if self._history.alone else None))
        disk, images, traces = settings.disk, settings.images, settings.shown.traces
        kept = KeptRoots(reactor, commands, os.path.join(state, "kept"), disk.nix_keep_days)
        limit = images.nix_timeout
        nix = self._add(Nix(reactor, commands, sources, evaluator, state, limit, kept, traces))
        self._add(Collector(reactor, commands, kept, disk.nix_min_free))
        self._popularity = self._make_popularity()
        system = settings.systems[0]
        indexer = Indexer(reactor, parts.processes, commands, sources, evaluator, system=system)
        folder = os.path.join(state, "search")
        self._catalogue = self._add(Catalogue(reactor, parts.resolver, indexer, folder, system))
        return nix

    def _make_popularity(self) -> "PopularityTable | None":
        url = self._settings.images.popularity_url
        if url is None:
            return None
        # A client for HTTP takes time and memory.
        from nixery.nix.popularity_table import PopularityTable

        copy = os.path.join(self._settings.state, "popularity.json")
        table = PopularityTable(self._reactor, make_agent(self._reactor), url, copy)
        self._add(Component(table.load))
        return table

    def _make_builder(self) -> Builder:
        reactor, settings, storage = self._reactor, self._settings, self._storage
        resolver, images, cache = self._nix_parts.resolver, settings.images, self._stored.cache
        reports = os.path.join(settings.state, "reports")
        staging = Staging(os.path.join(settings.state, "staging"))
        self._add(Component(lambda: in_thread(reactor, staging.clear), staging.leave))
        packers = self._add(Packers(Starts(reactor), reactor, images.packers, reports=reports))
        layers = LayerMaker(storage, cache, self._nix, packers, images.compression)
        maker = ImageMaker(
            reactor,
            resolver,
            self._nix,
            storage,
            layers,
            images.layer_budget,
            self._counts,
            settings.builds.closure_size,
            staging.name,
            settings.naming,
        )
        self._maker = maker
        # Where not everybody may pull everything, not all names are for everybody.
        hints = Hints(self._catalogue.suggest, self._tells_names)
        history, limits = self._history, settings.builds
        builder = Builder(
            *(reactor, resolver, storage, cache, maker, history, limits, hints), settings.systems
        )
        self._add(builder.queue)
        return self._add(builder)

    def _make_reproducer(self) -> Reproducer:
        return make_reproducer(
            self._reactor,
            self._settings.images,
            self._builder,
            self._stored.cache,
            self._maker,
            self._nix,
            self._nix_parts.commands,
            lambda: make_agent(self._reactor),
        )

    def _make_watchers(self) -> None:
        """Make the parts that report the daemon's state to operators."""
        reactor, settings, parts = self._reactor, self._settings, self._nix_parts
        commands, latest = parts.commands, self._builder.latest
        self._first_look = first_look = self._add(
            FirstLook(
                reactor, commands, parts.evaluator, parts.sources, latest, settings.systems[0]
            )
        )
        store = commands.store or "/nix/store"
        disks = {"state": settings.state, "nix": store, **settings.folders}
        checks = {
            "storage": storage_check(self._storage),
            "nix": nix_check(commands.valid),
            "builds": first_look.trial,
            "source": source_check(self._builder.provenance, first_look.offered),
            "disk": disk_check(reactor, disks),
        }
        self._readiness = Readiness(reactor, checks)
        self._add(LagMeter(reactor, self.metrics.late))
        self._add(Disks(reactor, disks))
        private = settings.operations.endpoint is not None
        self._operations = Operations(self._readiness, self.metrics.registry, private)
        self.operations = OperationsSite(self._operations, reactor, settings.http)

    def _make_site(self, auth: Auth) -> QuietSite:
        """The HTTP server, with as much of builds as settings allow to be seen."""
        reactor, settings, builder = self._reactor, self._settings, self._builder
        builds, packages, history, catalogue, stored = None, None, None, None, None
        more = list[Klein]()
        if settings.shown.pages != "off":
            history, catalogue = self._history, self._catalogue
            builds = BuildsApi(reactor, self._history, settings.shown.pages == "all", auth)
            known, cache = self._stored.images, self._stored.cache
            stored = StoredImages(reactor, known, cache, self._storage, auth)
            packages = PackagesApi(reactor, self._catalogue, stored, auth)
            signed = bool(settings.signing.keys)
            more.append(ImagePages(reactor, stored, history, signed).app)
            more.append(DocumentsApi(reactor, stored, builder_at(settings.signing.host)).app)
        start = StartApi(reactor, builder, history, catalogue, stored, auth, self._example)
        return make_site(
            reactor,
            builder,
            self._storage,
            settings.shown.hold,
            PagesApi(),
            builds,
            packages,
            auth,
            Trusted.parse(settings.transport.proxies),
            settings.http,
            self.metrics,
            self._operations if settings.operations.endpoint is None else None,
            settings.transport.accel,
            self._stored.images.pulled,
            [start.app, DocsApi(reactor).app, *more],
            [
                self._make_images_api(auth),
                HooksApi(self._access.webhook_secret, self._prebuild.note_push),
                VerificationApi(self._operators, self._reproducer),
            ],
            self._stored.artifacts,
            self._traces,
        )

    def _make_images_api(self, auth: Auth) -> ImagesApi:
        return ImagesApi(
            self._reactor,
            self._operators,
            self._builder,
            self._storage,
            self._stored.cache,
            self._stored.images,
            self._stored.removals,
            auth,
            self._settings.shown.pages != "off",
        )

    def _make_ahead(self, auth: Auth) -> None:
        """Make what works before anybody asks, and tells of builds."""
        reactor, ahead = self._reactor, self._settings.ahead
        self._prebuild = self._add(
            Prebuild(reactor, self._builder, self._stored.images, ahead.wanted, auth.somebody_may)
        )
        if ahead.wanted:
            often = max(_SOONEST, self._settings.revisions.ttl)
            self._add(Timer(reactor, often, self._prebuild.look))
        if ahead.notify_url is not None:
            # A client for HTTP takes time and memory.
            from nixery.watching.notifications import Notifications

            agent, secret = make_agent(reactor), self._access.notify_secret
            self._notifications = self._add(Notifications(reactor, agent, ahead.notify_url, secret))

    def _make_responders(self) -> "Responders | None":
        """The other processes that answer requests, if there are any."""
        if self._settings.address.workers == 1:
            return None
        from nixery.serving.responders import Responders

        reactor, count = self._reactor, self._settings.address.workers - 1
        return self._add(Responders(reactor, Starts(reactor), count, SECRET))

    async def listens(self, url: str) -> None:
        """Tell programs of this machine where the daemon is to be reached."""
        await self._operators.listens(url)

    async def look(self) -> str | None:
        """Wait until everything works.

        :return: the name of an image to try, if there is one.
        """
        return await self._first_look.until(self._readiness)

    async def reload(self) -> None:
        """Read again what operators may have changed: users, rules, certificates, popularity."""
        await self._watch.look(force=True)
        if self._popularity is not None:
            await self._popularity.load()

    async def release(self) -> None:
        """Answer all clients that wait for builds, and cancel the builds, which takes a moment."""
        self._readiness.stopping = True
        if self._responders is not None:
            await self._responders.stop()
        releasing = Deferred.fromCoroutine(self.site.release(self._settings.handover))
        self._builder.give_up()
        await releasing

    async def drain(self) -> None:
        """Wait until all clients are answered."""
        await self.site.drain()

    def _counts(self) -> Popularity:
        return {} if self._popularity is None else self._popularity.counts

    def _built(self, record: Record) -> None:
        timing = record.timing
        self.metrics.built(record.outcome, timing.phases, timing.layers)
        if record.head.state == "done":
            self._reproducer.made(record.head.name, record.head.tag)
        if self._notifications is not None:
            self._notifications.built(record.head)
        if self._traces is not None:
            self._traces.built(record, self._history)

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

    :param listening: where clients are served.
    :param operations: where health and metrics are served; none for the same endpoint.
    :param terminal: is told how the start ended.
    """
    ends = [each for each in (listening, operations) if each is not None]
    certificates = [each.certificate for each in ends if each.certificate is not None]
    registry = Registry(reactor, settings, environ, certificates)
    is_tls = listening.certificate is not None
    sites = [SiteAt(listening.endpoint, registry.site, is_tls)]
    if operations is not None:
        sites.append(SiteAt(operations.endpoint, registry.operations))
    return RegistryService(reactor, sites, registry, settings.stopping.drain, environ, terminal)


def _token_server(settings: Settings) -> TokenServer | None:
    access = settings.access
    if access.jwt_realm is None or access.jwt_audience is None:
        return None
    return TokenServer(access.jwt_realm, access.jwt_audience)
