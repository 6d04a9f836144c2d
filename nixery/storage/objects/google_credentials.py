"""Google's application default credentials, without ever waiting for them in the reactor."""

import functools
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

import attrs
import google.auth
import google.auth.credentials
import google.auth.crypt
import google.auth.exceptions
import google.auth.transport.requests
from google.auth import iam
from google.oauth2 import service_account
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.model.text import cut
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats
from nixery.storage.objects.object_store import ICredentials, PassingFault, Refused

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_AHEAD = 300.0  # seconds before its expiry that a token is replaced
_LAST_CALL = 30.0  # seconds before its expiry that a token is used for the last time
_PAUSE = 10.0  # seconds between two attempts ahead of time
_LIMIT = 8.0  # seconds that one try may wait for the network
_PATIENCE = 30.0  # seconds that a request waits for a token


@attrs.frozen
class UrlSigner:
    """Signs for a service account.

    :param account: its e-mail address.
    :param sign: gives the RSA-SHA256 signature of some bytes; may raise anything.
    :param is_local: whether the key is at hand, rather than the network asked.
    """

    account: str
    sign: Callable[[bytes], bytes]
    is_local: bool = False


def load_default() -> Any:
    """The credentials of this machine or environment. Blocks: for threads."""
    credentials, _ = google.auth.default(scopes=_SCOPES)
    return credentials


@implementer(ICredentials)
class Anonymous:
    """No credentials, as emulators want none."""

    async def token(self) -> str | None:
        return None

    def reject(self, token: str) -> None:
        pass


@implementer(ICredentials)
class GoogleCredentials:
    """Tokens that are refreshed once for all, ahead of time and in a thread."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        load: Callable[[], Any] = load_default,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param load: gives ``google.auth`` credentials; may block.
        :param now: seconds since the epoch.
        """
        self._reactor = reactor
        self._load = load
        self._now = now
        self._credentials: Any = None
        self._token: str | None = None
        self._expiry = 0.0
        self._next_attempt = 0.0
        self._repeats = Repeats(reactor.seconds)
        self._refreshing: Coalescer[None, str] = Coalescer()

    async def token(self) -> str | None:
        left = self._expiry - self._now()
        if self._token is None or left < _LAST_CALL:
            return await self._wait()
        if left < _AHEAD and self._now() >= self._next_attempt:
            self._refresh().addErrback(self._failed_ahead)
        return self._token

    def reject(self, token: str) -> None:
        if token == self._token:
            self._token = None

    async def signer(self) -> UrlSigner | None:
        """A signer for the credentials' account, if they have one."""
        await self.token()
        found = self._credentials
        if isinstance(found, google.auth.credentials.Signing):
            is_local = isinstance(found, service_account.Credentials)
            return UrlSigner(found.signer_email, found.sign_bytes, is_local)
        account = getattr(found, "service_account_email", None)
        if not account or "@" not in account:
            return None
        signer = iam.Signer(make_request(), found, account)  # type: ignore[no-untyped-call]
        return UrlSigner(account, signer.sign)

    async def _wait(self) -> str:
        try:
            return await self._refresh().addTimeout(_PATIENCE, self._reactor)
        except TimeoutError:
            raise Refused(f"Google gave no access token within {_PATIENCE:g} s") from None

    def _refresh(self) -> Deferred[str]:
        return self._refreshing.join(None, self._refresh_now)

    async def _refresh_now(self) -> str:
        self._next_attempt = self._now() + _PAUSE
        token, self._expiry = await in_thread(self._reactor, self._fetch)
        self._token = token
        return token

    def _failed_ahead(self, failure: Any) -> None:
        text, reason = "the access token is still good, but {reason}", str(failure.value)
        self._repeats.warn(self._log, text + reason, text, reason=reason)

    def _fetch(self) -> tuple[str, float]:
        try:
            if self._credentials is None:
                self._credentials = self._load()
            self._credentials.refresh(make_request())
        except Exception as error:  # files, networks, parsers: each has its own ways to fail
            text = f"no access token from Google: {_reason(error)}"
            # What the network raises while an answer is read is none of google.auth's errors.
            passing = isinstance(error, google.auth.exceptions.TransportError | OSError)
            if passing or getattr(error, "retryable", False):
                raise PassingFault(text) from error
            raise Refused(text) from error
        credentials = self._credentials
        if credentials.expiry is None:
            return credentials.token, self._now() + 2 * _AHEAD
        return credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp()


def make_request() -> Any:
    """A transport for ``google.auth`` that never waits long for an answer."""
    return functools.partial(google.auth.transport.requests.Request(), timeout=_LIMIT)


def key_signer(path: str, account: str) -> UrlSigner:
    """A signer with a service account's private key. Blocks.

    :param path: of a PEM file.
    :raises Refused: if that is none.
    """
    try:
        with open(path, "rb") as file:
            pem = file.read()
        signer = google.auth.crypt.RSASigner.from_string(pem)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise Refused(f"GCS_SIGNING_KEY: {error}") from error
    except ValueError as error:
        raise Refused(f"GCS_SIGNING_KEY: {path} holds no PEM key") from error
    return UrlSigner(account, signer.sign, is_local=True)


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return cut(text or type(error).__name__, 300)
