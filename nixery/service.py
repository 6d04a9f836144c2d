"""The daemon as a service of Twisted."""

import os
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

_LAST_WORDS = 0.25  # seconds


class RegistryService(Service):
    """Listens between the parts' start and their end."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamServerEndpoint,
        site: Site,
        prepare: Callable[[], Coroutine[Any, Any, None]],
        finish: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """
        :param prepare: starts the parts, before the first request is taken.
        :param finish: ends them, after the last.
        """
        self.setName("nixery")  # type: ignore[no-untyped-call]
        self.started: Deferred[None] | None = None
        self._port: IListeningPort | None = None
        self._reactor = reactor
        self._endpoint = endpoint
        self._site = site
        self._prepare = prepare
        self._finish = finish

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self.started = Deferred.fromCoroutine(self._start())
        self.started.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        if self.started is not None:
            self.started.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._prepare()
        self._port = await self._endpoint.listen(self._site)
        address = self._port.getHost()
        where = f"localhost:{address.port}" if hasattr(address, "port") else "HOST"
        self._log.info("ready; try: docker pull {where}/shell/git/htop", where=where)

    async def _stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
        await self._finish()
        # Those who waited were just answered; an answer takes a moment to leave.
        await deferLater(self._reactor, _LAST_WORDS, lambda: None)

    def _failed(self, failure: Failure) -> None:
        """Say why the daemon can't run, and end it with an exit code that says so too."""
        if not self.running:  # it was stopped before it had started
            return
        self._log.critical("cannot start: {reason}", reason=failure.getErrorMessage())
        # twistd itself knows no way to exit with anything but 0 once the reactor runs.
        self._reactor.addSystemEventTrigger("after", "shutdown", os._exit, 1)
        self._reactor.stop()
