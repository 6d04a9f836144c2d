"""The popularity table: loaded from where the operator keeps it."""

import os
from urllib.parse import unquote, urlsplit

import treq
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent

from nixery.model.popularity import Popularity, parse_popularity
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import hide_credentials
from nixery.reactor import IReactor
from nixery.url_credentials import split_credentials
from nixery.whole_file import whole_file

LIMIT = 64 * 1024 * 1024
"""Bytes of a table; all of nixpkgs takes about two million."""
PATIENCE = 60.0
"""Seconds that loading the table may take in all."""
PATIENCE_WITH_COPY = 10.0
"""Seconds that it may take where a copy can serve instead."""


class PopularityTable:
    """Loads the table and keeps a copy, for the starts at which it can't be reached.

    The table decides how layers are grouped, and so the digests: to go on without it would
    quietly make other images than yesterday.

    :ivar counts: the table that was loaded last. It is never changed, but replaced: whoever
        groups layers by it goes on with the one that they have.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, agent: IAgent, url: str, copy: str) -> None:
        """
        :param url: ``http``, ``https`` or ``file``.
        :param copy: the file that the copy is kept in.
        """
        self.counts: Popularity = {}
        self._reactor = reactor
        self._agent = agent
        self._url = url
        self._copy = copy
        self._lock = DeferredLock()

    async def load(self) -> None:
        """Load the table, once all loads that were begun have ended: the newest serves.

        :raises SourceUnavailable: if neither it nor a copy can be read.
        """
        async with self._lock:
            await self._load()

    async def _load(self) -> None:
        pool = self._reactor.getThreadPool()
        try:
            content = await self._fetch_in_time()
            table = await deferToThreadPool(self._reactor, pool, parse_popularity, content)
        except Exception as error:  # whatever the network, a file or a document may be at fault
            self.counts = await deferToThreadPool(self._reactor, pool, self._read_copy, error)
            self._log.warn(
                "popularity table {url}: {error}; its copy is used",
                url=hide_credentials(self._url),
                error=hide_credentials(str(error)),
            )
            return
        self.counts = table
        await deferToThreadPool(self._reactor, pool, self._write_copy, content)

    async def _fetch_in_time(self) -> bytes:
        pool = self._reactor.getThreadPool()
        has_copy = await deferToThreadPool(self._reactor, pool, os.path.exists, self._copy)
        limit = PATIENCE_WITH_COPY if has_copy else PATIENCE

        def late(result: bytes | Failure, _: float) -> bytes | Failure:
            # Agent wraps a cancellation in an error of its own.
            return Failure(ValueError(f"it was not loaded within {limit:g} s"))

        fetching = Deferred.fromCoroutine(self._fetch())
        return await fetching.addTimeout(limit, self._reactor, onTimeoutCancel=late)

    async def _fetch(self) -> bytes:
        address = urlsplit(self._url)
        if address.scheme == "file":
            pool = self._reactor.getThreadPool()
            return await deferToThreadPool(self._reactor, pool, _read, unquote(address.path))
        url, auth = split_credentials(self._url)
        response = await treq.get(url, agent=self._agent, auth=auth)
        body = _Body()
        response.deliverBody(body)
        if response.code != 200:
            body.finished.cancel()
            raise ValueError(f"the server answered {response.code}")
        return await body.finished

    def _read_copy(self, error: Exception) -> Popularity:
        try:
            return parse_popularity(_read(self._copy))
        except (OSError, ValueError):
            name = f"popularity table {hide_credentials(self._url)}"
            raise SourceUnavailable(name, hide_credentials(str(error))) from error

    def _write_copy(self, content: bytes) -> None:
        try:
            os.makedirs(os.path.dirname(self._copy), exist_ok=True)
            with whole_file(self._copy) as file:
                file.write(content)
        except OSError as error:
            self._log.error("{path} can't be written: {error}", path=self._copy, error=error)


class _Body(Protocol):
    """Collects an answer's body, and closes the connection if nobody waits for it any more.

    :ivar finished: fires with the body.
    """

    def __init__(self) -> None:
        self.finished: Deferred[bytes] = Deferred(lambda _: self._close())
        self._pieces: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > LIMIT:
            self._pieces.clear()
            self._close()
            self._fail(ValueError(f"it has more than {LIMIT} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss) is None:
            self._fail(ValueError("the connection was lost before its end"))
        elif not self.finished.called:
            self.finished.callback(b"".join(self._pieces))

    def _fail(self, error: Exception) -> None:
        if not self.finished.called:
            self.finished.errback(error)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(LIMIT)
