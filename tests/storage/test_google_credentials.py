# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Access tokens: one refresh for all who wait, ahead of time, and never in the reactor's thread."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import google.auth.credentials
import google.auth.exceptions
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from nixery.storage.objects.google_credentials import Anonymous, GoogleCredentials
from nixery.storage.objects.object_store import ICredentials, PassingFault, Refused
from tests.waiting import HUNG

reactor: Any = _reactor

START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


class FakeCredentials(google.auth.credentials.Credentials):
    """Credentials as google.auth has them, whose refreshing a test holds up.

    :ivar count: refreshes that were begun.
    :ivar most: of them at a time.
    :ivar fault: what refreshing fails with.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.now = now
        self.count = self.running = self.most = 0
        self.gate = threading.Event()
        self.gate.set()
        self.threads: set[int] = set()
        self.fault: Exception | None = None

    def refresh(self, request: Any) -> None:
        self.count += 1
        self.running += 1
        self.most = max(self.most, self.running)
        self.threads.add(threading.get_ident())
        assert self.gate.wait(HUNG)
        self.running -= 1
        if self.fault is not None:
            raise self.fault
        self.token = f"token {self.count}"
        end = datetime.fromtimestamp(self.now(), UTC) + timedelta(hours=1)
        self.expiry = end.replace(tzinfo=None)


class Setting:
    """Credentials over fake ones, with a clock of the test's."""

    def __init__(self) -> None:
        self.now = START
        self.fake = FakeCredentials(lambda: self.now)
        self.loads = 0
        self.credentials = GoogleCredentials(reactor, self._load, lambda: self.now)

    def _load(self) -> FakeCredentials:
        self.loads += 1
        return self.fake


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_interfaces(setting: Setting) -> None:
    """Both kinds provide what the interface asks for."""
    verifyObject(ICredentials, setting.credentials)
    verifyObject(ICredentials, Anonymous())


@pytest_twisted.ensureDeferred
async def test_one_refresh_for_all(setting: Setting) -> None:
    """Of two hundred who want a token when it has expired, all get the same new one, of one
    refresh, whoever of them leaves."""
    assert await setting.credentials.token() == "token 1"
    setting.now += 3600
    setting.fake.gate.clear()
    asking = [Deferred.fromCoroutine(setting.credentials.token()) for _ in range(200)]
    for leaving in asking[::10]:
        leaving.addErrback(lambda failure: failure.trap(CancelledError))
        leaving.cancel()
    setting.fake.gate.set()
    for staying in (asked for asked in asking if asked not in asking[::10]):
        assert await staying == "token 2"
    assert (setting.fake.count, setting.fake.most, setting.loads) == (2, 1, 1)
    assert threading.get_ident() not in setting.fake.threads


@pytest_twisted.ensureDeferred
async def test_ahead_of_time(setting: Setting) -> None:
    """Some minutes before it expires, the old token still serves while a new one is fetched."""
    await setting.credentials.token()
    setting.now += 3600 - 200
    setting.fake.gate.clear()
    for _ in range(5):
        assert await setting.credentials.token() == "token 1"
    setting.fake.gate.set()
    while await setting.credentials.token() == "token 1":
        await deferLater(reactor, 0.001)
    assert await setting.credentials.token() == "token 2"
    assert setting.fake.count == 2


@pytest_twisted.ensureDeferred
async def test_a_fault_ahead_of_time(setting: Setting) -> None:
    """As long as the old token is good, it does not matter that there is no new one; then it
    is said; and when there is one again, all is well."""
    await setting.credentials.token()
    setting.fake.fault = google.auth.exceptions.RefreshError("invalid_grant: it is over", {})
    setting.now += 3600 - 200
    while setting.fake.count < 2:
        assert await setting.credentials.token() == "token 1"
        await deferLater(reactor, 0.001)
    setting.now += 190
    with pytest.raises(Refused, match=r"no access token.*invalid_grant: it is over"):
        await setting.credentials.token()
    setting.fake.fault = None
    # The second refresh may have been under way when the token expired, or have ended before.
    assert await setting.credentials.token() == f"token {setting.fake.count}"
    assert setting.fake.count in (3, 4)


@pytest_twisted.ensureDeferred
async def test_a_network_that_fails(setting: Setting) -> None:
    """A fault that may pass is told from one that does not: the store then tries again."""
    setting.fake.fault = google.auth.exceptions.TransportError("no route")
    with pytest.raises(PassingFault, match="no access token from Google: no route"):
        await setting.credentials.token()
    setting.fake.fault = None
    assert await setting.credentials.token() == "token 2"


@pytest_twisted.ensureDeferred
async def test_rejected(setting: Setting) -> None:
    """A token that was refused is not given out again; that an older one was, says nothing."""
    assert await setting.credentials.token() == "token 1"
    setting.credentials.reject("token 1")
    assert await setting.credentials.token() == "token 2"
    setting.credentials.reject("token 1")
    assert await setting.credentials.token() == "token 2"


@pytest_twisted.ensureDeferred
async def test_no_credentials(setting: Setting) -> None:
    """A machine without credentials is told what is missing, in Google's words."""

    def load() -> Any:
        raise google.auth.exceptions.DefaultCredentialsError("none were found")

    with pytest.raises(Refused, match="none were found"):
        await GoogleCredentials(reactor, load).token()


@pytest_twisted.ensureDeferred
async def test_signers(setting: Setting) -> None:
    """Credentials without a key sign by their account, if they have one."""
    assert await setting.credentials.signer() is None
    setting.fake.service_account_email = "default"  # type: ignore[attr-defined]
    assert await setting.credentials.signer() is None
    setting.fake.service_account_email = "a@project.iam.gserviceaccount.com"  # type: ignore[attr-defined]
    signer = await setting.credentials.signer()
    assert signer is not None
    assert (signer.account, signer.is_local) == ("a@project.iam.gserviceaccount.com", False)
