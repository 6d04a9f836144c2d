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
from zope.interface import implementer

from nixery.model.text import cut
from nixery.reactor import IReactor
from nixery.storage.objects.object_store import ICredentials, PassingFault, Refused
from nixery.storage.objects.refreshed import LONGEST_FRESH, Refreshed

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_LIMIT = 8.0  # seconds that one try may wait for the network


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
    """Tokens of Google's default credentials."""

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
        self._load = load
        self._now = now
        self._credentials: Any = None
        self._tokens = Refreshed(reactor, "access token from Google", self._fetch, now)

    async def token(self) -> str | None:
        return await self._tokens.get()

    def reject(self, token: str) -> None:
        self._tokens.reject(token)

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
            return credentials.token, self._now() + LONGEST_FRESH
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
