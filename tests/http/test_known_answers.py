"""What is known: for how long, for whom, and how much of it."""

import gc
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.access.credentials import Credentials, Tokens
from nixery.access.guard import Guard
from nixery.access.jwt import Key, TokenVerifier
from nixery.http.known_answers import AGE, LARGEST, KnownAnswers
from nixery.http.request import Trusted
from nixery.interfaces import Provenance
from nixery.model.digest import Digest
from nixery.model.manifest import make_manifest
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.access_log import AccessLog, NoMeter
from nixery.web.auth import OPEN, Auth
from nixery.web.pages.api import PagesApi
from nixery.web.site import make_site
from tests.access.signing import AUDIENCE, ISSUER, Signer
from tests.web.connected import Connection
from tests.web.server import MANIFEST, FakeBuilder
from tests.web.test_bad_input import statuses

BLOB = bytes(range(256)) * 36
SIGNER = Signer.of("ES256")
TOKENS = Tokens({bytes.fromhex(Digest.of(b"secret").hex): "ada"})


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


PULL = request("/v2/a/manifests/latest")
AS_ADA = request("/v2/a/manifests/latest", "Authorization: Bearer secret")
LOAD = request(f"/v2/a/blobs/{Digest.of(BLOB)}")


class Pulls:
    """A connection on which a client pulls, whatever happens meanwhile.

    :ivar rules: may be changed.
    :ivar tokens: likewise.
    """

    def __init__(self, is_open: bool = True, trusted: str = "", memory: int | None = None) -> None:
        clock: Any = Clock()
        self.clock = clock
        self.builder, self.storage = FakeBuilder(), MemoryStorage()
        self.storage.blobs[Digest.of(BLOB)] = BLOB
        self.rules, self.tokens = Rules(anonymous=Patterns()), TOKENS
        self.verifier: TokenVerifier | None = None
        credentials = Credentials(None, lambda: self.tokens, lambda: self.verifier)
        auth = OPEN if is_open else Auth(Guard(credentials, lambda: self.rules))
        pages, proxies = PagesApi(), Trusted.parse(trusted)
        self.site = make_site(
            clock, self.builder, self.storage, 25, pages, auth=auth, trusted=proxies
        )
        if memory is not None:
            requests, starts = self.site.bounds.requests, self.site.known.starts
            log = AccessLog(NoMeter())
            self.site.known = KnownAnswers(clock, requests, starts, log, memory)
        self.connection = Connection(clock, self.site)

    def ask(self, data: bytes) -> int:
        """The status of the answer to a request."""
        self.connection.transport.clear()
        self.connection.send(data)
        self.connection.turns(2)
        (status,) = self.connection.statuses
        return status

    def is_known(self, data: bytes) -> bool:
        """Whether the answer to a request that is well was known."""
        before = self.site.known.given
        assert self.ask(data) in (200, 206, 304)
        return self.site.known.given > before


@pytest.mark.parametrize(
    "asked",
    [
        *(PULL, LOAD, request("/v2/"), request(f"/v2/a/manifests/{MANIFEST.digest}")),
        request("/v2/a/manifests/latest", method="HEAD"),
        request("/v2/a/manifests/latest", f'If-None-Match: "{MANIFEST.digest}"'),
        request(f"/v2/a/blobs/{Digest.of(BLOB)}", "Range: bytes=5-"),
        request(f"/v2/a/blobs/{Digest.of(BLOB)}", method="HEAD"),
    ],
)
def test_what_is_kept(asked: bytes) -> None:
    """The answers to pulls are known from the second time on."""
    pulls = Pulls()
    assert [pulls.is_known(asked) for _ in "abc"] == [False, True, True]


@pytest.mark.parametrize(
    "asked",
    [
        *(request("/v2/a/tags/list"), request("/")),
        request(f"/v2/a/blobs/{Digest.of(BLOB)}", "Range: bytes=1-1,3-3"),
        request("/v2/", "Expect: 100-continue"),
    ],
)
def test_what_is_not_kept(asked: bytes) -> None:
    """Everything else is answered anew."""
    pulls = Pulls()
    for _ in "ab":
        pulls.connection.send(asked)
        pulls.connection.turns(5)
    assert pulls.site.known.given == 0


def test_large_blobs() -> None:
    """A large blob is not kept, though a small part of it is."""
    pulls = Pulls()
    large = bytes(LARGEST + 1)
    pulls.storage.blobs[Digest.of(large)] = large
    path = f"/v2/a/blobs/{Digest.of(large)}"
    assert [pulls.is_known(request(path)) for _ in "ab"] == [False, False]
    part = request(path, "Range: bytes=1-")
    assert [pulls.is_known(part) for _ in "ab"] == [False, True]


def test_an_answer_that_waited_for_a_build() -> None:
    """What names the build that it waited for is that client's alone."""
    pulls = Pulls()
    pulls.builder.build = "0123"
    assert [pulls.is_known(PULL) for _ in "ab"] == [False, False]
    assert b"</builds/0123>" not in pulls.connection.transport.value()  # builds are not shown here


def test_blobs_that_are_lost() -> None:
    """As soon as a blob is lost or altered, what was known of it is not given."""
    pulls = Pulls()
    assert [pulls.is_known(LOAD) for _ in "ab"] == [False, True]
    pulls.storage.blobs[Digest.of(BLOB)] = b"altered"
    assert pulls.ask(LOAD) == 404
    pulls.storage.blobs[Digest.of(BLOB)] = BLOB
    assert [pulls.is_known(LOAD) for _ in "ab"] == [False, True]


def test_images_that_are_made_from_something_else() -> None:
    """As soon as a tag stands for another revision, what was known of it is not given."""
    pulls = Pulls()
    assert [pulls.is_known(PULL) for _ in "ab"] == [False, True]
    pulls.builder.made_from = Provenance("nixpkgs", "2")
    assert not pulls.is_known(PULL)
    assert b"Nixery-Revision: 2" in pulls.connection.transport.value()


def test_blobs_of_images_in_use() -> None:
    """A blob that was known before its image was pulled has that image kept all the same."""
    pulls = Pulls()
    config = MANIFEST.blobs[0].digest
    pulls.storage.blobs[config] = b"config"
    load = request(f"/v2/a/blobs/{config}")
    assert [pulls.is_known(load) for _ in "ab"] == [False, True]
    pulls.ask(PULL)
    assert not pulls.is_known(load)
    assert pulls.storage.used == [MANIFEST.digest, config]
    assert [pulls.is_known(each) for each in (PULL, load)] == [True, True]


def test_rules_that_change() -> None:
    """A rule counts from the next request on, on the same connection."""
    pulls = Pulls(is_open=False)
    assert [pulls.is_known(AS_ADA) for _ in "ab"] == [False, True]
    pulls.rules = attrs.evolve(pulls.rules, users={"ada": Patterns(deny=("a",))})
    assert pulls.ask(AS_ADA) == 403
    pulls.rules = Rules(anonymous=Patterns())
    assert not pulls.is_known(AS_ADA)


def test_users_that_go() -> None:
    """Who was a user is none from the next request on."""
    pulls = Pulls(is_open=False)
    assert [pulls.is_known(AS_ADA) for _ in "ab"] == [False, True]
    pulls.tokens = Tokens({})
    assert pulls.ask(AS_ADA) == 401


def test_others_than_the_user() -> None:
    """What a user may have is known for whoever has the user's credentials, and for nobody else."""
    pulls = Pulls(is_open=False)
    pulls.rules = Rules(anonymous=Patterns(allow=("b",)))
    assert [pulls.is_known(AS_ADA) for _ in "ab"] == [False, True]
    assert pulls.ask(PULL) == 401
    assert pulls.ask(request("/v2/a/manifests/latest", "Authorization: Bearer wrong")) == 401


@pytest.mark.parametrize("left", [100, 5, -1])
def test_tokens_that_expire(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """What is known for a token is known no longer than the token is good."""
    pulls = Pulls(is_open=False)
    key = Key(None, "ES256", SIGNER.key.public_key())
    pulls.verifier = TokenVerifier([key], AUDIENCE, ISSUER)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    token = SIGNER.token("a", exp=int(now) + left)
    asked = request("/v2/a/manifests/latest", f"Authorization: Bearer {token}")
    assert pulls.ask(asked) == 200  # some seconds of grace are for clocks that differ
    assert pulls.is_known(asked) == (left > 0)
    pulls.clock.advance(6)
    assert pulls.is_known(asked) == (left > 6)


def test_tokens_that_expire_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes its time to read the answer makes its token good for no longer."""
    pulls = Pulls(is_open=False)
    key = Key(None, "ES256", SIGNER.key.public_key())
    pulls.verifier = TokenVerifier([key], AUDIENCE, ISSUER)
    now = time.time()
    token = SIGNER.token("a", exp=int(now) + 100)
    asked = request("/v2/a/manifests/latest", f"Authorization: Bearer {token}")
    done = pulls.connection.channel.requestDone

    def much_later(answered: Any) -> None:
        monkeypatch.setattr(time, "time", lambda: now + 200)
        done(answered)

    monkeypatch.setattr(pulls.connection.channel, "requestDone", much_later)
    assert pulls.ask(asked) == 200
    monkeypatch.setattr(time, "time", lambda: now)
    assert not pulls.is_known(asked)


def test_proxies() -> None:
    """What is known is known for all clients of a proxy; each has its line, with its own ID."""
    pulls = Pulls(trusted="192.168.0.0/16")
    with capturedLogs() as captured:
        for number in range(3):
            lines = [f"X-Request-ID: id{number}", f"X-Forwarded-For: 192.0.2.{number}"]
            pulls.ask(request("/v2/a/manifests/latest", *lines))
            assert f"X-Request-Id: id{number}\r\n".encode() in pulls.connection.transport.value()
    assert pulls.site.known.given == 2
    told = [formatEvent(each) for each in captured if "status" in each]
    assert [line.partition(":")[0] for line in told] == [f"id{n} GET a" for n in range(3)]
    assert [f" for 192.0.2.{n}: known, 200 after " in line for n, line in enumerate(told)] == [
        True
    ] * 3


def test_memory_is_bounded() -> None:
    """Of all that is known, what was asked for last is kept, as much as there is room for."""
    pulls = Pulls(memory=50_000)
    asked = [LOAD.replace(b"Host: x", b"Host: x%d" % number) for number in range(10)]
    for each in asked:
        pulls.ask(each)
    known = [pulls.site.known.given for each in reversed(asked) if pulls.ask(each)]
    assert 3 <= known[-1] < 10


def test_memory_is_counted() -> None:
    """What is kept of the answer to HEAD, which has no body, takes no more memory than is counted
    of it, however many layers the image has."""
    pulls = Pulls()
    layers: Any = [SimpleNamespace(descriptor=each) for each in MANIFEST.blobs * 93]
    pulls.builder.served = make_manifest(MANIFEST.blobs[0], layers)
    known: Any = pulls.site.known
    asked = [request("/v2/a/manifests/latest", f"Number: {n}", method="HEAD") for n in range(200)]
    pulls.ask(asked[0])
    tracemalloc.start()
    before, counted = tracemalloc.get_traced_memory()[0], known._kept._weight
    for each in asked[1:]:
        pulls.ask(each)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0 < taken < known._kept._weight - counted


def test_what_is_old_is_forgotten() -> None:
    """After a crowd has left, its answers leave memory too."""
    pulls = Pulls()
    pulls.ask(PULL)
    known: Any = pulls.site.known
    pulls.clock.advance(AGE / 2)
    pulls.ask(LOAD)
    pulls.clock.advance(AGE / 2)
    known.sweep()
    assert len(known._kept) == 1
    pulls.clock.advance(AGE)
    known.sweep()
    assert len(known._kept) == 0


def test_dates() -> None:
    """An answer that was known is dated when it is given."""
    pulls = Pulls()
    pulls.ask(PULL)
    pulls.ask(PULL)
    (line,) = [x for x in pulls.connection.transport.value().split(b"\r\n") if x[:6] == b"Date: "]
    given = time.strptime(line.decode(), "Date: %a, %d %b %Y %H:%M:%S GMT")
    assert abs(time.mktime(given) - time.mktime(time.gmtime())) < 3600
    assert statuses(pulls.connection.transport.value()) == [200]
