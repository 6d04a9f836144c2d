"""Requests to Google Cloud Storage: with a token, a time limit, and patience."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from nixery.interfaces import ICredentials
from nixery.model.errors import StorageFull, StorageUnavailable
from nixery.model.text import cut
from nixery.repeats import Repeats
from nixery.storage.gcs.answer import PASSING, Answer, unavailable
from nixery.storage.gcs.bodies import abandon, read_body
from nixery.storage.gcs.patience import Patience

_LONGEST_TEXT = 300


Body = Sequence[bytes | memoryview]
"""The parts of a request's body."""


class Unreached(Exception):
    """There was no whole answer; whether the request had an effect is unknown."""


class Requests:
    """Sends requests, a bounded number at a time."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        agent: IAgent,
        credentials: ICredentials,
        patience: Patience,
        at_once: int = 16,
    ) -> None:
        """
        :param agent: is to keep its connections.
        :param at_once: requests; those that stream to clients are not counted.
        """
        self.reactor = reactor
        self.patience = patience
        self.repeats = Repeats(reactor.seconds)
        self._client = HTTPClient(agent)
        self._credentials = credentials
        self._turns = DeferredSemaphore(at_once)

    async def ask(
        self,
        what: str,
        method: str,
        url: str,
        expected: Collection[int] = (200,),
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = (),
        patience: Patience | None = None,
        with_token: bool = True,
    ) -> Answer:
        """Send a request whose repetition does no harm, until there is an answer that counts.

        :param what: is done, for messages: ``reading layers/0a``.
        :param expected: statuses that the caller knows what to do with.
        :param with_token: whether the URL needs one: that of an upload's session is one.
        :raises StorageFull: if there is no room.
        :raises StorageUnavailable: for any other answer, or none.
        """
        patience = patience or self.patience
        give_up = self.reactor.seconds() + patience.total
        tried = 0
        while True:
            tried += 1
            asked = 0.0
            try:
                answer = await self.once(
                    method,
                    url,
                    headers=headers,
                    body=body,
                    limit=patience.limit,
                    with_token=with_token,
                )
            except Unreached as unreached:
                reason = str(unreached)
            else:
                if answer.status in expected:
                    return answer
                self.check(what, answer)
                reason, asked = answer.reason, answer.retry_after
            wait = patience.wait(tried, asked)
            if tried >= patience.tries or self.reactor.seconds() + wait > give_up:
                self._log.error(
                    "{what}: given up after {tried} tries: {reason}",
                    what=what,
                    tried=tried,
                    reason=reason,
                )
                raise unavailable(what, reason)
            text = "{what}: {reason}; trying again"
            self.repeats.warn(self._log, reason, text, what=what, reason=reason)
            await self.pause(wait)

    def check(self, what: str, answer: Answer) -> None:
        """Raise what an answer means, unless the same request may succeed in a moment."""
        if answer.is_full:
            raise StorageFull("the bucket")
        if answer.status not in PASSING:
            self._log.error("{what}: {reason}", what=what, reason=answer.reason)
            raise unavailable(what, answer.reason)

    async def once(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = (),
        limit: float | None = None,
        with_token: bool = True,
    ) -> Answer:
        """Send a request once; if its token was refused, once more with a new one.

        :param limit: seconds.
        :raises Unreached: if there is no whole answer.
        :raises StorageUnavailable: if there is no token.
        """
        await self._turns.acquire()
        try:
            token = await self._credentials.token() if with_token else None
            answer = await self._send(method, url, _headers(headers, token), body, limit)
            if answer.status == 401 and token is not None:
                self._credentials.reject(token)
                sent = _headers(headers, await self._credentials.token())
                answer = await self._send(method, url, sent, body, limit)
            return answer
        finally:
            self._turns.release()

    async def open(self, url: str, headers: Mapping[str, str]) -> Any:
        """Send a GET and return the response as soon as its headers are there, body unread.

        :raises Unreached: if none came within the time limit.
        """
        token = await self._credentials.token()
        limit = self.patience.limit
        response = await self._open(url, _headers(headers, token))
        if response.code != 401 or token is None:
            return response
        self._credentials.reject(token)
        await self._within(limit, read_body(response))
        return await self._open(url, _headers(headers, await self._credentials.token()))

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await deferLater(self.reactor, seconds, lambda: None)

    async def _open(self, url: str, headers: dict[str, str]) -> Any:
        return await self._within(self.patience.limit, self._request("GET", url, headers, ()))

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: Body, limit: float | None
    ) -> Answer:
        async def send() -> Answer:
            response = await self._request(method, url, headers, body)
            content = await read_body(response)
            return Answer(response.code, response.headers, content, _document(response, content))

        answer: Answer = await self._within(
            limit or self.patience.limit, Deferred.fromCoroutine(send())
        )
        return answer

    def _request(
        self, method: str, url: str, headers: dict[str, str], body: Body
    ) -> "Deferred[Any]":
        # A status of 308 belongs to resumable uploads; treq would follow it.
        reactor: Any = self.reactor
        return self._client.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=FileBodyProducer(_BodyFile(body)) if any(body) else None,
            allow_redirects=False,
            unbuffered=True,
            reactor=reactor,
        )

    async def _within(self, limit: float, work: "Deferred[Any]") -> Any:
        """Wait for a response or its content; when the wait ends first, nothing is left of it.

        :param limit: seconds.
        :raises CancelledError: if the wait was cancelled, whatever that makes of the work.
        """
        wait = _Wait(work)
        timer = self.reactor.callLater(limit, wait.give_up)
        try:
            return await wait.over
        except (StorageUnavailable, Unreached):
            raise
        except Exception as error:  # each layer of the network has its own
            if wait.ended == "late":
                raise Unreached(f"no answer within {limit:g} s") from None
            if wait.ended:
                raise CancelledError() from None
            raise Unreached(network_reason(error)) from error
        finally:
            if timer.active():
                timer.cancel()


class _Wait:
    """A wait for the network.

    :ivar over: fires with what the work gives, or when the wait ends first; may be cancelled.
    :ivar ended: how the wait ended first, if it did: ``late`` or ``left``.
    """

    def __init__(self, work: "Deferred[Any]") -> None:
        self.over: Deferred[Any] = Deferred(lambda _: self._end("left"))
        self.ended = ""
        self._work = work
        work.addBoth(self._pass_on)

    def give_up(self) -> None:
        """It has taken too long."""
        self._end("late")
        self.over.cancel()  # nothing happens if the work has ended by that

    def _end(self, how: str) -> None:
        self.ended = self.ended or how
        self._work.cancel()

    def _pass_on(self, result: Any) -> None:
        if not self.over.called:
            self.over.callback(result)  # a Failure is as good
        elif hasattr(result, "deliverBody"):
            abandon(result)  # it could not be cancelled any more


class _BodyFile:
    """A body as a file that copies no more of it than is read at once."""

    def __init__(self, body: Body) -> None:
        self._parts = [memoryview(part) for part in body]
        self._length = sum(map(len, self._parts))
        self._at = 0

    def read(self, size: int) -> bytes:
        start = self._at
        for part in self._parts:
            if start < len(part):
                piece = bytes(part[start : start + size])
                self._at += len(piece)
                return piece
            start -= len(part)
        return b""

    def seek(self, offset: int, whence: int = 0) -> None:
        self._at = offset + (self._length if whence == os.SEEK_END else 0)

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._parts = []


def _document(response: Any, content: bytes) -> Mapping[str, Any]:
    """A JSON object in an answer; one that is cut short is no answer."""
    kind = (response.headers.getRawHeaders("Content-Type") or [""])[0]
    if not kind.startswith("application/json") or not content:
        return {}
    try:
        document = json.loads(content)
    except ValueError:
        raise Unreached("the answer was cut short") from None
    return document if isinstance(document, dict) else {}


def _headers(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    return {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}


def network_reason(error: Exception) -> str:
    """What an error of the network says."""
    reasons = getattr(error, "reasons", None)
    if reasons and isinstance(reasons[0], Failure):
        words = cut(reasons[0].getErrorMessage(), _LONGEST_TEXT)
        return f"the connection was lost ({words})"
    return cut(str(error), _LONGEST_TEXT) or type(error).__name__
