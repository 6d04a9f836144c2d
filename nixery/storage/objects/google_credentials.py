"""Google's application default credentials, without ever waiting for them in the reactor."""

import functools
import time
from collections.abc import Callable
from datetime import UTC
from typing import Any

import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport.requests
from google.auth import iam
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import ICredentials
from nixery.model.errors import StorageUnavailable
from nixery.model.text import cut
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_AHEAD = 300.0  # seconds before its expiry that a token is replaced
_LAST_CALL = 30.0  # seconds before its expiry that a token is used for the last time
_PAUSE = 10.0  # seconds between two attempts ahead of time
_WAITS = (0.2, 1.0)  # seconds between tries
_LIMIT = 8.0  # seconds that one try may wait for the network
_PATIENCE = 30.0  # seconds that a request waits for a token


def load_default() -> Any:
    """The credentials of this machine or environment. Blocks: for threads."""
    credentials, _ = google.auth.default(scopes=_SCOPES)
    return credentials


@implementer(ICredentials)
class Anonymous:
    """Nobody in particular: for emulators."""

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

    async def signer(self) -> Any | None:
        """What signs in the credentials' name, as ``google.auth`` has it; it may block.

        :return: nothing if these credentials can't sign.
        """
        await self.token()
        found = self._credentials
        if isinstance(found, google.auth.credentials.Signing):
            return found
        account = getattr(found, "service_account_email", None)
        return RemoteSigner(found, account) if account and "@" in account else None

    async def _wait(self) -> str:
        try:
            return await self._refresh().addTimeout(_PATIENCE, self._reactor)
        except TimeoutError:
            raise StorageUnavailable(
                f"Google gave no access token within {_PATIENCE:g} s"
            ) from None

    def _refresh(self) -> Deferred[str]:
        return self._refreshing.join(None, self._refresh_now)

    async def _refresh_now(self) -> str:
        self._next_attempt = self._now() + _PAUSE
        for wait in (*_WAITS, None):
            try:
                token, expiry = await in_thread(self._reactor, self._fetch)
            except _Passing as error:
                if wait is None:
                    raise StorageUnavailable(str(error)) from error
                text = "{error}; trying again"
                self._repeats.warn(self._log, str(error), text, error=str(error))
                await deferLater(self._reactor, wait, lambda: None)
            else:
                self._token, self._expiry = token, expiry
                break
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
                raise _Passing(text) from error
            raise StorageUnavailable(text) from error
        credentials = self._credentials
        if credentials.expiry is None:
            return credentials.token, self._now() + 2 * _AHEAD
        return credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp()


class _Passing(Exception):
    """There is no token now, but may be in a moment."""


def make_request() -> Any:
    """What ``google.auth`` asks by, never waiting long for an answer."""
    return functools.partial(google.auth.transport.requests.Request(), timeout=_LIMIT)


class RemoteSigner(google.auth.credentials.Signing):
    """Has Google sign for an account whose key is not here. Blocks."""

    def __init__(self, credentials: Any, account: str) -> None:
        """
        :param account: the service account's e-mail address.
        """
        self._account = account
        self._signer = iam.Signer(make_request(), credentials, account)  # type: ignore[no-untyped-call]

    def sign_bytes(self, message: bytes) -> bytes:
        """The signature of a message."""
        signature: bytes = self._signer.sign(message)
        return signature

    @property
    def signer_email(self) -> str:
        return self._account

    @property
    def signer(self) -> iam.Signer:
        return self._signer


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return cut(text or type(error).__name__, 300)
