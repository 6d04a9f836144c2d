"""The popularity table: loaded from where the operator keeps it."""

import os
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import treq
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from nixery.model.errors import SourceUnavailable
from nixery.model.popularity import Popularity, parse_popularity
from nixery.model.source import hide_credentials

_LIMIT = 64 * 1024 * 1024  # bytes; all of nixpkgs takes about two million
_PATIENCE = 30.0  # seconds without a byte


class PopularityTable:
    """Loads the table and keeps a copy, for the starts at which it can't be reached.

    The table decides how layers are grouped, and so the digests: to go on without it would
    quietly make other images than yesterday.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorThreads, agent: IAgent, url: str, copy: str) -> None:
        """
        :param url: ``http``, ``https`` or ``file``.
        :param copy: the file that the copy is kept in.
        """
        self._reactor = reactor
        self._agent = agent
        self._url = url
        self._copy = copy

    async def load(self) -> Popularity:
        """The table.

        :raises SourceUnavailable: if neither it nor a copy can be read.
        """
        pool = self._reactor.getThreadPool()
        try:
            content = await self._fetch()
            table = await deferToThreadPool(self._reactor, pool, parse_popularity, content)
        except Exception as error:  # whatever the network, a file or a document may be at fault
            return await deferToThreadPool(self._reactor, pool, self._read_copy, error)
        await deferToThreadPool(self._reactor, pool, self._write_copy, content)
        return table

    async def _fetch(self) -> bytes:
        address = urlsplit(self._url)
        if address.scheme == "file":
            pool = self._reactor.getThreadPool()
            return await deferToThreadPool(self._reactor, pool, _read, unquote(address.path))
        response = await treq.get(self._url, agent=self._agent, timeout=_PATIENCE)
        if response.code != 200:
            raise ValueError(f"the server answered {response.code}")
        pieces: list[bytes] = []
        size = 0

        def collect(piece: bytes) -> None:
            nonlocal size
            size += len(piece)
            if size > _LIMIT:
                raise ValueError(f"it is larger than {_LIMIT} bytes")
            pieces.append(piece)

        await treq.collect(response, collect)
        return b"".join(pieces)

    def _read_copy(self, error: Exception) -> Popularity:
        try:
            return parse_popularity(_read(self._copy))
        except (OSError, ValueError):
            name = f"popularity table {hide_credentials(self._url)}"
            raise SourceUnavailable(name, hide_credentials(str(error))) from error

    def _write_copy(self, content: bytes) -> None:
        beside = f"{self._copy}.new"
        try:
            os.makedirs(os.path.dirname(self._copy), exist_ok=True)
            with open(beside, "wb") as file:
                file.write(content)
            os.replace(beside, self._copy)
        except OSError as error:
            self._log.error("{path} can't be written: {error}", path=self._copy, error=error)
            with suppress(OSError):
                os.unlink(beside)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LIMIT)
