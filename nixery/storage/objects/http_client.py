"""HTTP as object stores over it need it: one attempt at a time, bounded in time, with nothing left
of a request that nobody waits for any more."""

import os
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import attrs
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from nixery.model.text import cut
from nixery.storage.objects.http_bodies import BodyCopy, abandon, read_body
from nixery.storage.objects.object_store import PassingFault

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of faults that may pass."""

_LONGEST_REASON = 300  # characters
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")

T = TypeVar("T")


@attrs.frozen
class HttpAnswer:
    """A whole answer."""

    status: int
    headers: Headers
    content: bytes

    def header(self, name: str) -> str:
        """A header's value, empty if there is none."""
        return (self.headers.getRawHeaders(name) or [""])[0]

    @property
    def date(self) -> float | None:
        """The server's time, in seconds since the epoch."""
        try:
            return parsedate_to_datetime(self.header("Date")).timestamp()
        except (TypeError, ValueError):
            return None

    @property
    def retry_after(self) -> float:
        """Seconds that the server asks to be left alone."""
        text = self.header("Retry-After")
        return float(text) if re.fullmatch("[0-9]{1,5}", text) else 0

    def reason(self, message: str | None = None) -> str:
        """The fault in one line, without the query of any URL: that may be a secret.

        :param message: from the content, which is shown as it is if there is none.
        """
        text = self.content.decode("utf-8", "replace") if message is None else message
        line = cut(" ".join(_QUERY.sub(r"\1", text).split()), _LONGEST_REASON)
        return f"status {self.status}" + (f" ({line})" if line else "")


class StoreClient:
    """Sends requests to a store. Every method raises ``PassingFault`` if no whole answer came."""

    def __init__(self, clock: IReactorTime, agent: IAgent) -> None:
        """
        :param agent: keeps connections.
        """
        self.clock = clock
        self._client = HTTPClient(agent)

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | memoryview,
        limit: float,
    ) -> HttpAnswer:
        """Send a request, and read the answer.

        :param limit: seconds for both.
        """

        async def send() -> HttpAnswer:
            response = await self._request(method, url, headers, body)
            return HttpAnswer(response.code, response.headers, await read_body(response))

        return await self._within(limit, Deferred.fromCoroutine(send()))

    async def copy_range(
        self,
        url: str,
        headers: Mapping[str, str],
        start: int,
        end: int,
        consumer: IConsumer,
        limit: float,
    ) -> tuple[int, int]:
        """Write a part of a resource to a consumer.

        :param limit: seconds until the answer begins.
        :return: the status, and how many bytes were written: none unless the answer is the part,
            fewer than asked for if the connection was lost.
        :raises CancelledError: if the consumer wants no more.
        """
        headers = {**headers, "Range": f"bytes={start}-{end - 1}"}
        response = await self._within(limit, self._request("GET", url, headers, b""))
        status: int = response.code
        if status != 206 and not (status == 200 and start == 0):
            abandon(response)
            return status, 0
        copying = BodyCopy(self.clock, consumer, end - start)
        response.deliverBody(copying)
        await copying.finished
        if copying.stopped:
            raise CancelledError()
        return status, copying.copied

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | memoryview
    ) -> "Deferred[Any]":
        reactor: Any = self.clock
        return self._client.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in headers.items()}),
            data=FileBodyProducer(_BodyFile(body)) if body else None,
            allow_redirects=False,  # resumable uploads give 308 a meaning of their own
            unbuffered=True,
            reactor=reactor,
        )

    async def _within(self, limit: float, work: "Deferred[T]") -> T:
        """Wait for a response or its content.

        :raises CancelledError: if the wait was cancelled, whatever that makes of the work.
        """
        late = left = False

        def leave(_: object) -> None:
            nonlocal left
            left = True
            work.cancel()

        def pass_on(result: Any) -> None:
            if not over.called:
                over.callback(result)  # a Failure is as good
            elif hasattr(result, "deliverBody"):
                abandon(result)  # it could not be cancelled any more

        def give_up() -> None:
            nonlocal late
            late = True
            over.cancel()

        over: Deferred[T] = Deferred(leave)
        work.addBoth(pass_on)
        timer = self.clock.callLater(limit, give_up)
        try:
            return await over
        except Exception as error:  # each layer of the network has its own
            if late:
                raise PassingFault(f"no answer within {limit:g} s") from None
            if left:
                raise CancelledError() from None
            raise PassingFault(network_reason(error)) from error
        finally:
            if timer.active():
                timer.cancel()


async def url_faults(client: StoreClient, url: str, limit: float) -> list[str]:
    """Try a signed URL as a client would; the object need not be there.

    :return: a phrase for the fault, if there is one.
    """
    answer = await client.ask("GET", url, {}, b"", limit)
    if answer.status in (200, 404):
        return []
    code = re.search(rb"<Code>([^<]{1,80})", answer.content)
    said = f" ({code[1].decode('ascii', 'replace')})" if code else ""
    return [f"signed URLs are refused with status {answer.status}{said}"]


def network_reason(error: Exception) -> str:
    """An error of the network, in words."""
    reasons = getattr(error, "reasons", None)
    if reasons and isinstance(reasons[0], Failure):
        words = cut(reasons[0].getErrorMessage(), _LONGEST_REASON)
        return f"the connection was lost ({words})"
    return cut(str(error), _LONGEST_REASON) or type(error).__name__


class _BodyFile:
    """A body as a file that copies no more of it than is read at once."""

    def __init__(self, body: bytes | memoryview) -> None:
        self._body = memoryview(body)
        self._at = 0

    def read(self, size: int) -> bytes:
        piece = bytes(self._body[self._at : self._at + size])
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = 0) -> None:
        self._at = offset + (len(self._body) if whence == os.SEEK_END else 0)

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._body = memoryview(b"")
