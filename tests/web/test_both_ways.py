"""Random requests, answered by what is known and as if nothing were: the same bytes, the same
lines in the log, the same counts."""

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.access.credentials import Credentials, Tokens
from nixery.access.guard import Guard
from nixery.http.known_answers import KnownAnswers
from nixery.http.request import Trusted
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.access_log import AccessLog
from nixery.web.auth import OPEN, Auth
from nixery.web.pages.api import PagesApi
from nixery.web.site import make_site
from tests.web.connected import Connection
from tests.web.server import MANIFEST, FakeBuilder

BLOBS = (b"config", bytes(range(250)) * 36, bytes(70_000))
DIGESTS = [MANIFEST.digest, *(MANIFEST.digest.of(blob) for blob in BLOBS)]
TOKENS = Tokens({bytes.fromhex(DIGESTS[1].hex): "ada"})  # whose token is "config"
RULES = Rules(anonymous=Patterns(), users={"ada": Patterns(deny=("git",))})
_DIFFERING = re.compile(rb"(?i)(date|x-request-id): [^\r]*|(boundary=|--)[0-9a-f]{32}")

paths = st.sampled_from(
    [
        *("/v2/", "/v2", "/v2/?n=1", "/v2/a/manifests/latest", "/v2/shell/git/manifests/latest"),
        *("/v2/a/tags/list", "/v2/a/manifests/b!", "/", "/healthz", "/nothing", "*", "//v2/"),
        *(f"/v2/a/manifests/{DIGESTS[0]}", f"/v2/git/blobs/{DIGESTS[2]}", "http://x/v2/"),
        *(f"/v2/a/blobs/{digest}" for digest in DIGESTS),
    ]
)
fields = st.lists(
    st.sampled_from(
        [
            *("Connection: close", "Connection: keep-alive", "connection: Close, x", "Accept: */*"),
            *("Range: bytes=0-1", "range: bytes=-3", "Range: bytes=2-2,4-4", "Range: bytes=9-"),
            *("Range: bytes=0-40000", "If-Range: x", f'If-Range: "{DIGESTS[1]}"', "Range: x"),
            *(f'If-None-Match: "{DIGESTS[0]}"', "If-None-Match: *", "If-None-Match: x"),
            *("Authorization: Bearer config", "Authorization: Bearer x", "Authorization: Basic x"),
            *("X-Request-ID: first", "x-request-id:second ", "X-Request-ID: not one", "Host: y"),
            *("X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: x", "x-FORWARDED-for: ::1, 10.0.0.1"),
            *("X-Forwarded-Proto: https", "Expect: 100-continue", "Content-Length: 0", "X: \tx\t"),
            *("Content-Length: 3", "Transfer-Encoding: chunked", "Not a header", "X-Y: \x01"),
        ]
    ),
    max_size=4,
)
heads = st.builds(
    lambda method, path, version, host, more: "\r\n".join(
        [f"{method} {path} HTTP/{version}", *host, *more, "", ""]
    ).encode("latin-1"),
    st.sampled_from(["GET", "GET", "GET", "HEAD", "HEAD", "POST", "OPTIONS", "get"]),
    paths,
    st.sampled_from(["1.1", "1.1", "1.1", "1.0", "1.2"]),
    st.sampled_from([["Host: x"], ["Host: x"], ["Host: x"], []]),
    fields,
)
proper = st.builds(
    lambda method, path, more: f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode(),
    st.sampled_from(["GET", "HEAD"]),
    paths,
    st.sampled_from(["", "Range: bytes=1-3\r\n", "X-Forwarded-For: 192.0.2.7\r\n"]),
)
EXPECTING = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"
CLOSING = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@st.composite
def talks(draw: st.DrawFn) -> list[bytes]:
    """What clients send: a few requests, each several times, whole, in parts, or together."""
    some = draw(st.lists(proper | heads, min_size=1, max_size=3))
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(1, 8))):
        data = draw(st.sampled_from(some))
        match draw(st.sampled_from(["whole", "whole", "whole", "parts", "together", "body"])):
            case "whole":
                pieces.append(data)
            case "parts":
                at = draw(st.integers(1, len(data) - 1))
                pieces += [data[:at], data[at:]]
            case "together":
                pieces.append(data + draw(st.sampled_from(some)))
            case "body":
                pieces.append(data + b"abc")
    return pieces


class Side:
    """A site, and connections to it that follow one another."""

    def __init__(self, memory: int | None, auth: Auth, trusted: str) -> None:
        self.clock: Any = Clock()
        self.builder, self.storage = FakeBuilder(), MemoryStorage()
        for blob in BLOBS:
            self.storage.blobs[MANIFEST.digest.of(blob)] = blob
        self.counted: list[tuple[object, ...]] = []
        pages = PagesApi()
        clock: Any = self.clock
        proxies, builder = Trusted.parse(trusted), self.builder
        self.site = make_site(
            clock, builder, self.storage, 25, pages, auth=auth, trusted=proxies, meter=self
        )
        if memory is not None:
            requests, starts = self.site.bounds.requests, self.site.known.starts
            log = AccessLog(self)
            self.site.known = KnownAnswers(self.clock, requests, starts, log, memory)

    def pulled(self, by: str, outcome: str) -> None:
        self.counted.append((by, outcome))

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        self.counted.append((kind, status, sent))

    def talk(self, pieces: list[bytes]) -> list[object]:
        """Send pieces, on another connection whenever one was closed.

        :return: all that can be seen of it.
        """
        with capturedLogs() as captured:
            seen: list[bytes] = []
            connection = Connection(self.clock, self.site)
            for piece in pieces:
                connection.send(piece)
                connection.turns(4)
                if not connection.transport.connected or connection.transport.half_closed:
                    seen.append(connection.transport.value())
                    connection.leave()
                    connection = Connection(self.clock, self.site)
            seen.append(connection.transport.value())
            connection.leave()
        lines = [formatEvent({**each, "request": ""}) for each in captured if "status" in each]
        bounds = self.site.bounds
        left = (bounds.connections.open, bounds.requests.running, dict(bounds.refused))
        return [[_DIFFERING.sub(b"", each) for each in seen], lines, self.counted, left]


def _compare(pieces: list[bytes], auth: Auth, trusted: str) -> Side:
    made, known = Side(0, auth, trusted), Side(None, auth, trusted)
    assert known.talk(pieces) == made.talk(pieces)
    assert made.site.known.given == 0
    return known


@given(talks(), st.sampled_from(["", "192.168.0.0/16", "192.168.0.0/16, 10.0.0.0/8"]))
@example([EXPECTING] * 3, "")
@example([CLOSING] * 3, "")
@example([CLOSING, CLOSING + CLOSING, CLOSING], "")
def test_anything(pieces: list[bytes], trusted: str) -> None:
    """Whatever clients send, and in whatever pieces, both ways are the same to them, in the log and
    in the counts."""
    _compare(pieces, OPEN, trusted)


@given(talks())
def test_with_users(pieces: list[bytes]) -> None:
    """So they are where not everybody may have everything."""
    credentials = Credentials(None, lambda: TOKENS, lambda: None)
    _compare(pieces, Auth(Guard(credentials, lambda: RULES)), "")


@given(proper, st.sampled_from(["", "192.168.0.0/16"]))
def test_what_is_known(request: bytes, trusted: str) -> None:
    """A request that is well and has come before is answered by what is known, unless it is for a
    page or a large blob."""
    known = _compare([request] * 3, OPEN, trusted)
    path = request.split(b" ")[1].decode()
    is_long = path.endswith(DIGESTS[3].hex) and b"Range" not in request
    is_error = path.endswith(("b!", "nothing", DIGESTS[0].hex)) and "/blobs/" in path
    if path.startswith("/v2/") and "tags" not in path and not is_long and not is_error:
        assert known.site.known.given == (0 if "b!" in path else 2)
