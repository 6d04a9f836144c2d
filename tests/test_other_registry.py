"""Another registry, asked for a manifest."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.web.client import Agent

from nixery.model.image import parse_image
from nixery.model.service_errors import OtherRegistryUnavailable
from nixery.other_registry import OtherRegistry

reactor: Any = _reactor
GIT = parse_image("git", "latest")


@attrs.define
class FakeRegistry:
    """A registry that gives the answers it is told, one after the other: status, location, body."""

    url: str
    answers: list[tuple[int, str, bytes]] = attrs.Factory(list)
    asked: list[str] = attrs.Factory(list)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    fake = FakeRegistry("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fake.asked.append(self.path)
            status, location, body = fake.answers.pop(0)
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


other = OtherRegistry(reactor, lambda: Agent(reactor))


@pytest_twisted.ensureDeferred
async def test_a_manifest_in_the_making(registry: FakeRegistry) -> None:
    """A registry that is making the image sends its client to itself until it is done."""
    again = "/v2/git/manifests/latest?again=1"
    registry.answers += [(307, again, b""), (307, again, b""), (200, "", b"{}")]
    assert await other.manifest(f"{registry.url}/", GIT) == b"{}"
    assert registry.asked == ["/v2/git/manifests/latest", again, again]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "", b"unknown name"), "status 404 (unknown name)"),
        ((307, "http://127.0.0.2:1/x", b""), "status 307"),
        ((301, "/v2/x", b""), "status 301"),
    ],
)
async def test_refusals(registry: FakeRegistry, answer: tuple[int, str, bytes], said: str) -> None:
    """What a registry refuses is told; nobody is sent to another host by it."""
    registry.answers.append(answer)
    with pytest.raises(OtherRegistryUnavailable, match=r"did not give") as refused:
        await other.manifest(registry.url, GIT)
    assert said in str(refused.value)
    assert len(registry.asked) == 1


@pytest_twisted.ensureDeferred
async def test_nobody_answers() -> None:
    """A registry that can't be reached is told as such."""
    with pytest.raises(OtherRegistryUnavailable, match="refused"):
        await other.manifest("http://127.0.0.1:1", GIT)
