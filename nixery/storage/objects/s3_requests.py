"""Requests to a bucket of S3: signed, and judged by their answers."""

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from urllib.parse import quote, urlencode

import attrs
from twisted.internet.interfaces import IConsumer
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from nixery.reactor import IReactor, in_thread
from nixery.storage.objects.aws_access import AwsProfile, S3Access
from nixery.storage.objects.http_client import PASSING, HttpAnswer, StoreClient
from nixery.storage.objects.object_store import PassingFault, Refused
from nixery.storage.objects.refreshed import Refreshed
from nixery.storage.objects.s3_answers import code_of, failure_of, is_not_accepted

_WRONG = 240.0  # seconds by which a clock counts as wrong; the service allows 900
_SMALL = 64 * 1024  # bytes that are digested in the reactor's thread
_DATED_BACK = 60  # seconds that a client's way to the service may be behind the clock here


@attrs.frozen
class S3Bucket:
    """A bucket, or the part of it that is Nixery's.

    :param prefix: the beginning of all names in it, with a slash at its end; empty for none.
    :param public_endpoint: the service's URL for clients, if they reach it elsewhere.
    """

    name: str
    prefix: str = ""
    public_endpoint: str | None = None


class S3Requests:
    """Sends requests about a bucket and its objects."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        agent: IAgent,
        bucket: S3Bucket,
        profile: AwsProfile,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param agent: keeps connections.
        :param now: seconds since the epoch.
        """
        self.bucket = bucket
        self.client = StoreClient(reactor, agent)
        self._reactor = reactor
        self._profile = profile
        self._access = Refreshed(reactor, "access to S3", profile.fetch, now)
        self._now = now
        self._behind = 0.0  # seconds by which this machine's clock is behind the service's

    async def ask(
        self,
        method: str,
        name: str | None,
        limit: float,
        expected: Collection[int] = (200,),
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        sha256: str | None = None,
    ) -> HttpAnswer:
        """Send a request; if its credentials or its time were not accepted, once more with others.

        :param name: the object; ``None`` for the bucket itself.
        :param expected: statuses that the caller knows what to do with.
        :param query: names and values; a ``None`` is left out.
        :param sha256: the body's, in hexadecimal digits, if it is known.
        """
        if sha256 is None:
            sha256 = await self._digested(body)
        for repeatable in (True, False):
            access = await self._access.get()
            url = self._url(access, name, query)
            sent = access.signer.headers(method, url, headers or {}, sha256, self._time())
            answer = await self.client.ask(method, url, sent, body, limit)
            if not (repeatable and self._is_mended(access, answer)):
                break
        # Copies and completed uploads are answered before it is known how they end.
        ended = answer.status != 200 or method not in ("PUT", "POST") or not code_of(answer)
        if answer.status in expected and ended:
            return answer
        raise failure_of(answer)

    async def copy_range(
        self,
        name: str,
        headers: Mapping[str, str],
        start: int,
        end: int,
        consumer: IConsumer,
        limit: float,
    ) -> int:
        """Write a part of an object to a consumer; see :meth:`IObjectStore.copy_range`."""
        for repeatable in (True, False):
            access = await self._access.get()
            url = self._url(access, name)
            sha256 = hashlib.sha256().hexdigest()
            sent = access.signer.headers("GET", url, headers, sha256, self._time())
            status, copied = await self.client.copy_range(url, sent, start, end, consumer, limit)
            if status in (400, 401, 403) and repeatable:
                self._reject(access)
            elif status in PASSING:
                raise PassingFault(f"status {status}")
            elif status not in (200, 206):
                raise Refused(f"status {status}")
            else:
                break
        return copied

    async def signed_url(self, name: str, lifetime: int) -> str:
        """A URL by which anybody can GET an object.

        :param lifetime: seconds that it works for, dated back a little: clocks differ.
        """
        access = await self._access.get()
        url = self._url(access, name, endpoint=self.bucket.public_endpoint)
        return access.signer.url(url, self._time() - _DATED_BACK, lifetime + _DATED_BACK)

    async def region(self) -> str:
        """The region that requests are signed for."""
        return (await self._access.get()).signer.region

    def _time(self) -> float:
        """The service's time, in seconds since the epoch."""
        return self._now() + self._behind

    def _url(
        self,
        access: S3Access,
        name: str | None,
        query: Mapping[str, object] | None = None,
        endpoint: str | None = None,
    ) -> str:
        path = "" if name is None else quote(self.bucket.prefix + name)
        given = {key: value for key, value in (query or {}).items() if value is not None}
        text = "?" + urlencode(given, quote_via=quote, safe="~") if given else ""
        return f"{access.bucket_url(self.bucket.name, endpoint)}/{path}{text}"

    async def _digested(self, body: bytes | memoryview) -> str:
        if len(body) > _SMALL:
            return (await in_thread(self._reactor, hashlib.sha256, body)).hexdigest()
        return hashlib.sha256(body).hexdigest()

    def _is_mended(self, access: S3Access, answer: HttpAnswer) -> bool:
        """Whether what an answer objects to is another now: the time, or the credentials."""
        if not is_not_accepted(answer):
            return False
        if answer.date is not None and abs(answer.date - self._time()) > _WRONG:
            self._behind = answer.date - self._now()
            text = "this machine's clock is {minutes:.0f} min {how} that of S3, which counts"
            how = "behind" if self._behind > 0 else "ahead of"
            self._log.warn(text, minutes=abs(self._behind) / 60, how=how)
        else:
            self._reject(access)
        return True

    def _reject(self, access: S3Access) -> None:
        self._profile.forget()
        self._access.reject(access)
