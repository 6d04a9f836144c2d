"""URLs by which clients get blobs without asking this daemon for each byte."""

import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

import attrs
import google.auth.crypt
from google.cloud.storage import _signing
from google.oauth2 import service_account
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

from nixery.coalesce import Coalescer
from nixery.model.errors import StorageUnavailable
from nixery.model.text import cut
from nixery.recent import Recent

_SKEW = 60  # seconds that the service's clock may be behind ours
_REMEMBERED = 4096
_TOKEN_URL = "https://oauth2.googleapis.com/token"


class Urls(Protocol):
    """Where clients find objects."""

    async def url(self, name: str) -> str:
        """The URL to GET an object from."""


@attrs.frozen
class PublicUrls:
    """URLs of a bucket that anybody may read.

    :param root: the bucket's URL.
    """

    root: str

    async def url(self, name: str) -> str:
        return f"{self.root}/{name}"


class SignedUrls:
    """V4 signed URLs, each handed out for the first half of its life."""

    def __init__(
        self,
        reactor: IReactorThreads,
        base: str,
        bucket: str,
        signer: Any,
        lifetime: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param base: the service's URL.
        :param signer: signs, as ``google.auth.credentials.Signing`` does.
        :param lifetime: seconds that a URL is good for at least half of, when it is handed out.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._base = base
        self._bucket = bucket
        self._signer = signer
        self._lifetime = lifetime
        self._now = now
        self._signed: Recent[str, str] = Recent(now, _REMEMBERED)
        self._signing: Coalescer[str, str] = Coalescer()

    async def url(self, name: str) -> str:
        known = self._signed.get(name, self._lifetime / 2)
        if known is not None:
            return known
        return await self._signing.join(name, lambda: self._sign(name))

    async def _sign(self, name: str) -> str:
        try:
            # A key at hand takes less than a thread does; other signers use the network.
            if isinstance(self._signer, service_account.Credentials):
                url = self._sign_now(name)
            else:
                pool = self._reactor.getThreadPool()
                url = await deferToThreadPool(self._reactor, pool, self._sign_now, name)
        except Exception as error:  # google.auth has many, and those of the network
            raise StorageUnavailable(f"no URL can be signed: {cut(str(error), 300)}") from error
        self._signed.put(name, url)
        return url

    def _sign_now(self, name: str) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now() - _SKEW))
        url: str = _signing.generate_signed_url_v4(
            self._signer,
            resource=f"/{self._bucket}/{quote(name)}",
            expiration=self._lifetime + _SKEW,
            api_access_endpoint=self._base,
            _request_timestamp=stamp,
        )
        return url


def load_signer(key_path: str, account: str) -> service_account.Credentials:
    """What signs with a service account's private key. Blocks.

    :param key_path: of a PEM file.
    :raises StorageUnavailable: if that is none.
    """
    try:
        with open(key_path, "rb") as file:
            pem = file.read()
        signer = google.auth.crypt.RSASigner.from_string(pem)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise StorageUnavailable(f"GCS_SIGNING_KEY: {error}") from error
    except ValueError as error:
        raise StorageUnavailable(f"GCS_SIGNING_KEY: {key_path} holds no PEM key") from error
    credentials: service_account.Credentials = service_account.Credentials(  # type: ignore[no-untyped-call]
        signer, account, _TOKEN_URL
    )
    return credentials
