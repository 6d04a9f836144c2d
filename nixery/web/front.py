"""Every request's way to its answer: its route, checks, turns, credentials, and errors."""

from collections.abc import Iterable

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from werkzeug.exceptions import HTTPException

from nixery.http.answers import (
    LOGGED,
    NOT_FOUND,
    RETRY_AFTER,
    TOO_MANY,
    UNKNOWN,
    UNSUPPORTED,
    ErrorKind,
    RefusedRequest,
    answer,
    answer_error,
    answer_refused,
    log_fault,
    redirect,
)
from nixery.http.bounded_site import AnsweringResource, finish
from nixery.http.known_answers import KnownAnswers
from nixery.http.operation import Answers, Operation, text_answers
from nixery.http.request import RegistryRequest, has_host
from nixery.http.routes import Errors, Route, Routes
from nixery.model.errors import NixeryError
from nixery.web.access_log import AccessLog
from nixery.web.auth import Auth
from nixery.web.holding import Redirected
from nixery.web.operations import Operations
from nixery.web.pages.api import PagesApi
from nixery.web.pages.page import prefers_html

_LONGEST_PATH = 2048
_HEALTH = text_answers("text/plain")
_CHECKS = Answers("All is well.", {"type": "object"}, others=("text/plain",))
_READY = {
    b"GET": Operation({200: _CHECKS, 503: attrs.evolve(_CHECKS, text="Some check fails.")}),
}
_METRICS = text_answers("text/plain", "application/openmetrics-text")
_TOKEN = {b"GET": Operation({200: Answers("The token.", {"type": "object"})})}
_UNKNOWN_PATHS = {
    b"v2": Route("registry"),
    b"images": Route(errors=Errors.PAGE),
    b"static": Route(errors=Errors.PAGE),
}


class Front(AnsweringResource):
    """Answers each request, by the handler of its route or by the error that keeps it from that."""

    app = Klein()

    def __init__(
        self,
        clock: IReactorTime,
        apps: Iterable[Klein],
        pages: PagesApi,
        links: bool,
        auth: Auth,
        known: KnownAnswers,
        log: AccessLog,
        operations: Operations | None,
    ) -> None:
        """
        :param apps: those whose routes are served.
        :param pages: shows errors to people.
        :param links: whether errors name the builds that they come from.
        :param known: gives answers without it, within the same limits and turns.
        """
        super().__init__(self._serve)
        self._clock = clock
        self._routes = Routes([self.app, *apps], _UNKNOWN_PATHS)
        self._pages = pages
        self._links = links
        self._auth = auth
        self._requests, self._starts = known.requests, known.starts
        self._log = log
        self._operations = operations

    @app.route(
        "/healthz", endpoint=Route("operations", always=True, probe=True, operations=_HEALTH)
    )
    @app.route("/readyz", endpoint=Route("operations", always=True, probe=True, operations=_READY))
    @app.route("/metrics", endpoint=Route("operations", always=True, operations=_METRICS))
    async def operations(self, request: RegistryRequest) -> bytes:
        """Health, readiness, metrics."""
        if self._operations is None:
            raise _nothing_at(request)
        return await self._operations.answer(request)

    @app.route("/token", endpoint=Route(token=True, operations=_TOKEN))
    def token(self, request: RegistryRequest) -> bytes:
        """A token for a client."""
        token = self._auth.token(request)
        if token is None:
            raise _nothing_at(request)
        return token

    def render(self, request: RegistryRequest) -> int:
        """Begin to answer a request, now or in its client's turn."""
        request.route, request.variables = self._routes.find(request)
        if request.route.in_registry:
            request.setHeader(b"Docker-Distribution-Api-Version", b"registry/2.0")
        self._log.begin(request)
        refused = self._refusal(request)
        ended = request.notifyFinish()
        ended.addBoth(self._ended, request, self._clock.seconds(), refused is None)
        running = self._requests.of(request.network)
        if refused is not None:
            finish(request, answer_refused(request, refused))
        elif self._is_probe(request):
            self.begin(request)
        elif self._starts.has_time(running):
            self._starts.begin(lambda: self.begin(request))
        else:
            self._starts.later(request.network, running, lambda: self.begin(request))
        return NOT_DONE_YET

    def _refusal(self, request: RegistryRequest) -> RefusedRequest | None:
        """Why a request is refused at once; one that is not counts as running."""
        if (fault := _fault(request)) is not None:
            return RefusedRequest(UNSUPPORTED, fault)
        if request.method not in (allowed := request.route.methods):
            request.setHeader(b"Allow", b", ".join(allowed))
            message = "this registry is read-only: images are made on demand"
            if request.route.operator:
                message = f"this path takes only {b', '.join(allowed).decode()}"
            return RefusedRequest(ErrorKind(405, "UNSUPPORTED"), message)
        # How many clients are behind a UNIX socket is not known.
        always = request.route.always or request.sender == "unix"
        if not self._requests.begin(request.network, always):
            message = "too many requests from your address at once"
            return RefusedRequest(TOO_MANY, message, RETRY_AFTER)
        return None

    def _ended(
        self, result: object, request: RegistryRequest, began: float, was_running: bool
    ) -> None:
        if was_running:
            self._requests.end(request.network)
        seconds = self._clock.seconds() - began
        facts = self._log.facts(request, left=isinstance(result, Failure))
        self._log.note(facts, request.id, request.sender, seconds)

    def _is_probe(self, request: RegistryRequest) -> bool:
        return request.route.probe and self._operations is not None

    async def _serve(self, request: RegistryRequest) -> bytes | None:
        request.access = self._auth.files()
        try:
            own = self._is_probe(request) or request.route.operator or request.route.public
            if not self._auth.is_open and not own:
                try:
                    await self._auth.identify(request)
                except NixeryError as error:
                    return answer_error(request, error)
            answering = self._routes.answer(request.route, request, request.variables)
            body: bytes | None = await answering if isinstance(answering, Deferred) else answering
            return body
        except CancelledError:
            raise
        except Exception as error:
            return await self._failed(request, error)

    async def _failed(self, request: RegistryRequest, error: Exception) -> bytes | None:
        """Answer a request with an error."""
        if isinstance(error, HTTPException):
            error = _nothing_at(request)
        request.again = None  # that was said of another answer
        if not isinstance(error, NixeryError | RefusedRequest | Redirected):
            log_fault(request)
        if request.channel is None:
            return None
        if request.startedWriting:
            request.channel.persistent = False
            return None
        match error:
            case Redirected(location=location):
                return redirect(request, location)
            case _ if _is_page(request):
                return await self._pages.show_error(request, error)
            case RefusedRequest():
                return answer_refused(request, error)
            case NixeryError():
                shown = self._links and request.build
                see = f"{request.origin}/builds/{request.build}" if shown else None
                return answer_error(request, self._auth.censored(request, error), see)
            case _:
                return answer(request, UNKNOWN, LOGGED)


def _nothing_at(request: RegistryRequest) -> RefusedRequest:
    where = "the registry API has nothing" if request.route.in_registry else "there is nothing"
    return RefusedRequest(NOT_FOUND, f"{where} at this path")


def _is_page(request: RegistryRequest) -> bool:
    """Whether a request's errors are pages."""
    errors = request.route.errors
    return errors is Errors.PAGE or (errors is Errors.PAGE_IN_BROWSER and prefers_html(request))


def _fault(request: RegistryRequest) -> str | None:
    """Why a request is improper, if it is."""
    if not has_host(request.requestHeaders, request.clientproto):
        return "a request must have one Host header that names a host"
    if request.method == b"OPTIONS" and request.uri == b"*":
        return None
    if not request.uri.startswith(b"/"):
        return "a request target must be a path"
    if len(request.uri) > _LONGEST_PATH:
        return f"a request target must have at most {_LONGEST_PATH} bytes"
    try:
        path = b"/".join(request.postpath or []).decode("utf-8")
    except UnicodeDecodeError:
        return "a path must be UTF-8"
    return None if path.isprintable() else "a path must not contain control characters"
