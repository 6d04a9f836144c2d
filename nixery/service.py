"""The daemon as a service of Twisted: listening, signals, the service manager, draining."""

import os
import signal
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, cast

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from nixery.http.listening import address_of, why_not
from nixery.lifecycle import InOrder
from nixery.model.errors import NixeryError
from nixery.systemd import Notifier
from nixery.terminal import Terminal

_FINISH = 20.0
"""Seconds that the parts may take to end, after the answers: more than Nix and packers get."""


class IRegistry(Protocol):
    """The registry, as its service drives it.

    :ivar parts: started before the first request is accepted, and stopped after the last answer.
    """

    parts: InOrder

    async def listens(self, url: str) -> None:
        """Take note that clients are served, and at which URL programs of this machine reach it."""

    async def look(self) -> str | None:
        """Wait until everything that requests need is known to work; cancelled when the daemon
        stops.

        :return: the name of an image to try, if there is one.
        """

    async def reload(self) -> None:
        """Reload the files that operators may have changed."""

    async def release(self) -> None:
        """Answer clients that would wait for long; after this, no connections are accepted."""

    async def drain(self) -> None:
        """Wait until every client has its answer; cancelled when that takes too long."""


@attrs.frozen
class SiteAt:
    """A site, and the endpoint that it is served at.

    :param is_tls: whether TLS is spoken there.
    """

    endpoint: IStreamServerEndpoint
    site: IProtocolFactory
    is_tls: bool = False

    def url(self, where: str) -> str:
        """The URL of an address that is listened on; a UNIX socket has one that begins with
        ``unix:``, and its path."""
        if where.startswith("/"):
            return f"unix:{where}"
        return f"{'https' if self.is_tls else 'http'}://{where}"


class RegistryService(Service):
    """Starts the parts, listens, and stops both when it is told to."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        sites: Sequence[SiteAt],
        registry: IRegistry,
        patience: float,
        environ: Mapping[str, str],
        terminal: Terminal | None = None,
    ) -> None:
        """
        :param sites: the one for clients first.
        :param patience: seconds that draining may take.
        :param environ: tells how to reach the service manager.
        :param terminal: is told how the start ended.
        """
        self.setName("nixery")  # type: ignore[no-untyped-call]
        self.started: Deferred[None] | None = None
        self.observer: ILogObserver | None = None
        """Writes the log in place of twistd's own observer."""
        self._ports: list[IListeningPort] = []
        self._reactor = reactor
        self._sites = sites
        self._registry = registry
        self._patience = patience
        self._draining: Deferred[None] | None = None
        self._ending = False
        self._notifier = Notifier(reactor, environ)
        self._terminal = terminal or Terminal(None)
        self._looking: Deferred[None] | None = None
        self._handlers_before: dict[int, Any] = {}

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of an application, which twistd asks for a log observer."""
        if self.observer is not None:
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._terminal.hold()
        # Twisted sets its own when the reactor starts.
        self._reactor.callWhenRunning(self._handle_signals)
        self.started = Deferred.fromCoroutine(self._start())
        self.started.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        for pending in (self.started, self._looking):
            if pending is not None:
                pending.cancel()
        self._terminal.failed("stopped before it had started")
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._registry.parts.startService()
        for each in self._sites:
            self._ports.append(await each.endpoint.listen(each.site))
        where = address_of(self._ports[0].getHost())
        self._log.info("listening on {where}", where=where)
        await self._registry.listens(self._sites[0].url(where))
        self._notifier.ready(f"listening on {where}")
        self._terminal.started(f"listening on {where}")
        self._looking = Deferred.fromCoroutine(self._look(where))
        self._looking.addErrback(self._looked_in_vain)

    async def _look(self, where: str) -> None:
        """Report when the daemon can do its work. Images that it has are served before that."""
        image = await self._registry.look()
        words = "ready" if image is None else f"ready; try: docker pull {where}/{image}"
        self._log.info("{words}", words=words)
        self._notifier.tell_status(words)

    def _looked_in_vain(self, failure: Failure) -> None:
        if not failure.check(CancelledError, NixeryError):
            self._log.failure("while looking whether all is ready", failure)

    async def _stop(self) -> None:
        self._notifier.stopping("finishing the answers in flight")
        if self._ports:
            await self._attempt(self._registry.release())
        # Health and metrics are served until the end.
        for port in self._ports[:1]:
            await maybeDeferred(port.stopListening)
        await self._attempt(self._drain())
        await self._registry.parts.stopService()
        for port in self._ports[1:]:
            await maybeDeferred(port.stopListening)
        self._notifier.stop()
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    async def _attempt(self, step: Coroutine[Any, Any, None]) -> None:
        """Take a step of the end: if it fails, that is logged, and the others follow."""
        try:
            await step
        except Exception:
            self._log.failure("while stopping")

    async def _drain(self) -> None:
        """Wait until all clients are answered, but no longer than the patience."""
        if not self._ports:
            return
        self._draining = Deferred.fromCoroutine(self._registry.drain())
        late = self._reactor.callLater(self._patience, self._draining.cancel)
        try:
            await self._draining
        except CancelledError:
            self._log.warn("some answers were not finished in time and are cut off")
        finally:
            if late.active():
                late.cancel()

    def _handle_signals(self) -> None:
        """Take over the signals.

        With twistd's own handlers the process would be ended by the signal, which service managers
        count as a failure.
        """
        handlers = {
            signal.SIGTERM: self._asked_to_stop,
            signal.SIGINT: self._asked_to_stop,
            signal.SIGHUP: self._asked_to_reload,
        }

        def came(number: int, _: object) -> None:
            self._reactor.callFromThread(handlers[signal.Signals(number)])

        for number in handlers:
            self._handlers_before[number] = signal.signal(number, came)

    def _asked_to_stop(self) -> None:
        if self._draining is not None:
            self._draining.cancel()
        elif self.running and not self._ending:
            self._ending = True
            self._log.info(
                "stopping; answers in flight get {patience:g} s, or until the next signal",
                patience=self._patience,
            )
            _end_within(self._patience + _FINISH)
            self._reactor.stop()

    def _asked_to_reload(self) -> None:
        reloading = Deferred.fromCoroutine(self._registry.reload())
        reloading.addErrback(lambda failure: self._log.failure("while reloading", failure))

    def _failed(self, failure: Failure) -> None:
        """Report why the daemon can't run, and end it with exit code 1."""
        if not self.running or self._ending:  # stopped before it had started
            return
        reason = why_not(cast(BaseException, failure.value))
        self._log.critical("cannot start: {reason}", reason=reason)
        self._terminal.failed(f"cannot start: {reason}")
        self._terminal.remove_pid()
        # Once the reactor runs, twistd itself always exits with 0.
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self._reactor.stop()


def _end_within(seconds: float) -> None:
    """End the process after a while, even if a thread hangs, as one does on a hanging disk."""

    def end() -> None:
        os.write(
            2, b"nixery: some threads do not end, as when a disk hangs; exiting all the same\n"
        )
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
