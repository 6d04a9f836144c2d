"""Requests that wait for a build."""

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, TimeoutError

from nixery.web.holding import MOST_HOPS, hops_of, with_hops
from tests.waiting import HUNG, until
from tests.web.server import MANIFEST, Answer, Server, serving

CONTAINERD = {"User-Agent": "containerd/v2.4.0"}


async def build_when_asked(server: Server, times: int) -> None:
    """Have the image be built once so many requests have waited for it."""
    await until(lambda: len(server.builder.asked) == times)
    assert server.builder.gate is not None
    server.builder.gate.callback(None)


async def follow(server: Server, path: str, headers: dict[str, str]) -> tuple[Answer, int]:
    """Follow redirects as clients do, and count them."""
    for redirects in range(MOST_HOPS + 1):
        answer = await server.ask(path, headers=headers)
        if answer.status != 307:
            return answer, redirects
        path = answer.headers["location"]
    raise AssertionError("more redirects than clients follow")


@pytest_twisted.ensureDeferred
async def test_redirected_to_itself() -> None:
    """A request that waited long enough is sent to itself, by its path, with its query."""
    async with serving(hold=0.05) as server:
        server.builder.gate = Deferred()
        answer = await server.ask("/v2/a/b/manifests/x?ns=docker.io&q=%2F")
        assert answer.status == 307
        assert answer.headers["location"] == "/v2/a/b/manifests/x?ns=docker.io&q=%2F&nixery-hop=1"
        assert server.builder.left == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("headers", [{}, CONTAINERD])
async def test_a_build_of_several_holds(headers: dict[str, str]) -> None:
    """A client that follows redirects gets the image when it is built."""
    async with serving(hold=0.1) as server:
        server.builder.gate = Deferred()
        built = Deferred.fromCoroutine(build_when_asked(server, 3))
        answer, redirects = await follow(server, "/v2/a/manifests/latest", headers)
        await built
        assert (answer.status, answer.body) == (200, MANIFEST.content)
        assert redirects >= 2


@pytest_twisted.ensureDeferred
async def test_the_last_hop_waits() -> None:
    """A client that follows no more redirects is held until the build ends."""
    async with serving(hold=0.01) as server:
        server.builder.gate = Deferred()
        built = Deferred.fromCoroutine(build_when_asked(server, MOST_HOPS + 1))
        answer, redirects = await follow(server, "/v2/a/manifests/latest", {})
        await built
        assert answer.status == 200
        assert redirects == MOST_HOPS


@pytest_twisted.ensureDeferred
async def test_containerd_starts_over() -> None:
    """containerd, which gives up a request without headers, is told to ask again."""
    async with serving(hold=0.01) as server:
        server.builder.gate = Deferred()
        answer, redirects = await follow(server, "/v2/a/manifests/latest", CONTAINERD)
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answer.error()["code"] == "TOOMANYREQUESTS"
        assert redirects == MOST_HOPS


@pytest_twisted.ensureDeferred
async def test_errors_after_a_redirect() -> None:
    """A build that fails while a client is on its way tells it so."""
    async with serving(hold=0.1) as server:
        server.builder.gate = Deferred()
        server.builder.error = RuntimeError()
        built = Deferred.fromCoroutine(build_when_asked(server, 2))
        answer, _ = await follow(server, "/v2/a/manifests/latest", {})
        await built
        assert answer.status == 500


@pytest_twisted.ensureDeferred
async def test_a_time_limit_of_the_work_itself() -> None:
    """What ran out of time is a failure, and not a request that was held for long enough."""
    async with serving(hold=HUNG) as server:
        server.builder.gate = Deferred()
        server.builder.error = TimeoutError()
        built = Deferred.fromCoroutine(build_when_asked(server, 1))
        answer, redirects = await follow(server, "/v2/a/manifests/latest", {})
        await built
        assert (answer.status, redirects) == (500, 0)


@pytest.mark.parametrize(
    ("query", "hops"),
    [
        (b"", 0),
        (b"?nixery-hop=3", 3),
        (b"?ns=x&nixery-hop=4&y", 4),
        (b"?nixery-hop=9999", MOST_HOPS),
        (b"?nixery-hop=-1", 0),
        (b"?nixery-hop=1e3", 0),
        (b"?nixery-hop=", 0),
        (b"?nixery-hop=" + b"9" * 400, 0),
        (b"?nixery-hop=2&nixery-hop=7", 2),
    ],
)
def test_hops(query: bytes, hops: int) -> None:
    """The number of hops is read from the query; nonsense harms nobody."""
    assert hops_of(b"/v2/a/manifests/x" + query) == hops


@given(st.lists(st.from_regex(rb"[a-z%0-9=]{0,10}", fullmatch=True)), st.integers(0, MOST_HOPS))
def test_hops_round_trip(parameters: list[bytes], hops: int) -> None:
    """A number that was written is read again, and no other parameter changes."""
    query = b"&".join(parameters)
    after = with_hops(b"/v2/x?" + query if query else b"/v2/x", hops)
    assert hops_of(after) == hops
    kept = [p for p in after.partition(b"?")[2].split(b"&") if not p.startswith(b"nixery-hop=")]
    assert kept == (parameters if query else [])
