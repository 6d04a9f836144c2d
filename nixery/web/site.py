"""The HTTP server of the registry: its parts, and how it stops."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from klein import Klein
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.task import deferLater

from nixery.builds.artifacts import Artifacts
from nixery.builds.cache import Cache
from nixery.builds.served import ServedImages
from nixery.http.bounded_site import BoundedSite
from nixery.http.bounds import Bounds
from nixery.http.fair import FairStarts
from nixery.http.knowing_channel import KnowingChannel
from nixery.http.known_answers import KnownAnswers
from nixery.http.request import NOBODY, RequestBody, Trusted
from nixery.interfaces import IBuilder, IStorage
from nixery.model.limits import HttpLimits
from nixery.reactor import IReactor
from nixery.web.access_log import (
    AccessLog,
    IMeter,
    ITraced,
    NoMeter,
    OnManifest,
    ignore_manifest,
)
from nixery.web.auth import OPEN, Auth
from nixery.web.builds import BuildsApi
from nixery.web.front import Front
from nixery.web.holding import Holding
from nixery.web.openapi import OpenApi, openapi_document
from nixery.web.operations import Operations
from nixery.web.packages import PackagesApi
from nixery.web.pages.api import PagesApi
from nixery.web.pages.reference_api import ReferenceApi
from nixery.web.permitted import PermittedDigests
from nixery.web.referrers import ReferrersApi
from nixery.web.v2 import RegistryApi

ANSWER = 4.0
"""Seconds in which an answer begins to leave when the daemon stops: more than a request on its way
gets to arrive."""
ASK_AGAIN = 1.0
"""Seconds in which clients that were held can ask again, to be told why."""
LAST_WORDS = 1.0
"""Seconds that what was written last may take to leave."""
_LIMITS = HttpLimits()


class IApi(Protocol):
    """Answers some paths.

    :ivar app: their routes.
    :ivar bodies: makes what takes the bodies of requests, by the first segment of their path.
    """

    app: Klein
    bodies: Mapping[bytes, Callable[[], RequestBody]]


class QuietSite(BoundedSite):
    """The site of the registry, and how it stops.

    :ivar known: the answers that are known.
    :ivar shows_builds: whether it has pages of builds and packages.
    """

    protocol = KnowingChannel

    def __init__(
        self,
        root: Front,
        reactor: IReactor,
        bounds: Bounds,
        holding: Holding,
        known: KnownAnswers,
        shows_builds: bool,
        bodies: Mapping[bytes, Callable[[], RequestBody]],
    ) -> None:
        """
        :param bodies: makes what takes bodies, by the first segment of a path.
        """
        super().__init__(root, reactor, bounds)
        self._bodies = bodies
        self._holding = holding
        self.known = known
        self.shows_builds = shows_builds

    def body_for(self, target: bytes) -> RequestBody:
        """What takes the body of a request.

        :param target: its path and query.
        """
        make = self._bodies.get(target.lstrip(b"/").partition(b"/")[0], RequestBody)
        return make()

    async def release(self, handover: bool) -> None:
        """Let all go who are held, and keep no connection for longer than an answer.

        :param handover: whether another daemon answers those who ask again; otherwise, they are
            given a moment to do so here: docker asks by HEAD first, and shows no answer to that.
        """
        self.stopping = True
        self.bounds.connections.retire()
        if self._holding.release(handover) and not handover:
            await deferLater(self._clock, ASK_AGAIN)

    async def drain(self) -> None:
        """Wait until everybody is answered.

        Clients to which no answer has begun to leave after a while are not waited for: what they
        ask takes long, and they ask again.
        """
        connections = self.bounds.connections
        answered = connections.answered()
        late = self._clock.callLater(ANSWER, connections.forsake)
        try:
            await answered
        finally:
            if late.active():
                late.cancel()

    async def leave(self) -> None:
        """Let those be answered who were told of an end just now, as by the events of a build."""
        closed = self.bounds.connections.closed()
        with suppress(CancelledError, TimeoutError):
            await closed.addTimeout(LAST_WORDS, self._clock)


def make_site(
    reactor: IReactor,
    builder: IBuilder,
    storage: IStorage,
    hold_limit: float,
    pages: PagesApi,
    builds: BuildsApi | None = None,
    packages: PackagesApi | None = None,
    auth: Auth = OPEN,
    trusted: Trusted = NOBODY,
    limits: HttpLimits = _LIMITS,
    meter: IMeter | None = None,
    operations: Operations | None = None,
    accel: str | None = None,
    on_manifest: OnManifest = ignore_manifest,
    more: Iterable[Klein] = (),
    apis: Sequence[IApi] = (),
    artifacts: Artifacts | None = None,
    traces: ITraced | None = None,
) -> QuietSite:
    """The HTTP server's factory.

    :param hold_limit: seconds that a request waits for a build before it is redirected.
    :param pages: for people.
    :param builds: shows builds; none to show none.
    :param packages: answers ``/packages``; none for no such path.
    :param auth: lets through what a client may pull.
    :param trusted: the proxies that are believed.
    :param limits: what clients may ask of it.
    :param meter: takes note of what is answered.
    :param operations: health and metrics; none if they are not served here.
    :param accel: see :class:`nixery.web.blobs.BlobAnswers`.
    :param on_manifest: see :class:`nixery.web.access_log.AccessLog`.
    :param more: what else has routes.
    :param apis: what takes the bodies of requests.
    :param artifacts: what is attached to images; none for images without signatures.
    :param traces: makes spans of pulls; none for no traces.
    """
    bounds = Bounds(limits)
    holding = Holding(reactor, hold_limit)
    # A cache of its own, and a small one: only manifests that are looked into are in it.
    cache = Cache(storage, remembered=64)
    artifacts = artifacts or Artifacts(reactor, storage, cache)
    selective = auth.is_selective
    served = ServedImages(reactor, storage, cache, artifacts.blobs_of) if selective else None
    permitted = PermittedDigests(auth, served)
    referrers = ReferrersApi(auth, artifacts, permitted)
    log = AccessLog(meter or NoMeter(), on_manifest, traces)
    links = builds is not None
    api = RegistryApi(reactor, builder, storage, holding, links, auth, permitted, referrers, accel)
    apps = [api.app, referrers.app, pages.app, *more]
    apps += [each.app for each in (builds, packages, *apis) if each is not None]
    apps.append(ReferenceApi(reactor, lambda: openapi_document([Front.app, *apps])).app)
    apps.append(OpenApi([Front.app, *apps]).app)
    bodies = {path: make for each in apis for path, make in each.bodies.items()}
    known = KnownAnswers(reactor, bounds.requests, FairStarts(reactor), log)
    front = Front(reactor, apps, pages, links, auth, known, log, operations)
    site = QuietSite(front, reactor, bounds, holding, known, links, bodies)
    site.trusted = trusted
    return site
