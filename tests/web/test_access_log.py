"""How pulls are counted."""

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from nixery.interfaces import Provenance
from nixery.model.build_errors import (
    BuildFailed,
    BuildTimedOut,
    ClosureTooLarge,
    ImageTimedOut,
    MemoryExceeded,
    PackingFailed,
    TooManyFiles,
)
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.package_errors import AmbiguousPackage, EvaluationFailed, UnknownPackage
from nixery.model.request_errors import Denied, UnknownTag
from nixery.model.service_errors import NixUnavailable, QueueFull
from nixery.web.access_log import NoMeter
from tests.web.server import MANIFEST, Collector, serving
from tests.web.test_v2 import example

FAILED = (
    EvaluationFailed,
    BuildFailed,
    BuildTimedOut,
    ImageTimedOut,
    MemoryExceeded,
    ClosureTooLarge,
    TooManyFiles,
)
OUTCOMES = [
    *((kind, "failed") for kind in FAILED),
    (AmbiguousPackage, "invalid"),
    (UnknownPackage, "not found"),
    (QueueFull, "busy"),
    (Denied, "refused"),
    (NixUnavailable, "unavailable"),
    (PackingFailed, "error"),
]


class Meter(NoMeter):
    """Remembers how pulls ended."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.statuses: list[int] = []

    def pulled(self, by: str, outcome: str) -> None:
        self.outcomes.append(outcome)

    def answered(self, kind: str, status: int, sent: int, seconds: float) -> None:
        self.statuses.append(status)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("kind", "outcome"), OUTCOMES)
async def test_outcomes(kind: type[NixeryError], outcome: str) -> None:
    """A pull that could not be answered is counted by whose fault it was."""
    meter = Meter()
    async with serving(meter=meter) as server:
        server.builder.error = example(kind)
        await server.ask("/v2/hello/manifests/latest")
        assert meter.outcomes == [outcome]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [UnknownPackage, UnknownTag])
async def test_what_is_not_found_by_any_status(kind: type[NixeryError]) -> None:
    """What containerd gets a 400 for is not found all the same."""
    meter = Meter()
    async with serving(meter=meter) as server:
        server.builder.error = example(kind)
        await server.ask("/v2/hello/manifests/latest", headers={"User-Agent": "containerd/2.1"})
    assert meter.statuses == [400]
    assert meter.outcomes == ["not found"]


@pytest_twisted.ensureDeferred
async def test_who_leaves_got_no_answer() -> None:
    """A client that leaves before its answer is counted as such, and not among those that got
    one."""
    meter = Meter()
    async with serving(meter=meter) as server:
        server.builder.gate = Deferred()
        client = await server.connect(Collector())
        client.transport.write(  # type: ignore[union-attr]
            b"GET /v2/hello/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        await server.until(lambda: bool(server.builder.asked))
        client.transport.abortConnection()  # type: ignore[union-attr]
        await server.until(lambda: bool(meter.outcomes))
        assert (meter.outcomes, meter.statuses) == (["left"], [499])


@pytest_twisted.ensureDeferred
async def test_a_pull_and_its_build() -> None:
    """The line of a pull has the ID that its answer has, and that of the build it waited for;
    the build is told whose it is."""
    async with serving() as server:
        server.builder.build = "0123"
        with capturedLogs() as captured:
            answer = await server.ask("/v2/hello/manifests/latest")
        (line,) = [each for each in captured if "status" in each]
        assert (line["request"], line["build"]) == (answer.headers["x-request-id"], "0123")
        assert "build 0123" in formatEvent(line)
        assert server.builder.requests == [line["request"]]


@pytest_twisted.ensureDeferred
async def test_names_that_are_none() -> None:
    """A name that is not understood is no failure."""
    meter = Meter()
    async with serving(meter=meter) as server:
        assert (await server.ask("/v2/hello/manifests/a!b")).status == 400
        assert meter.outcomes == ["invalid"]


@pytest_twisted.ensureDeferred
async def test_names_that_forge_a_line() -> None:
    """A name stands in the log as in an address, so that it can't pass for the rest of a line."""
    name = "x:latest%20for%20192.0.2.1:%20known,%20200%0D"
    async with serving() as server:
        with capturedLogs() as captured:
            await server.ask(f"/v2/{name}/manifests/%C3%A9!")
        (line,) = [each for each in captured if "status" in each]
        assert line["image"] == f"{name}:%C3%A9!"


@pytest_twisted.ensureDeferred
async def test_braces_in_a_cause() -> None:
    """Nix's language is full of braces; the line of a pull shows them as they are."""
    async with serving() as server:
        server.builder.error = EvaluationFailed("attribute '{x}' in { a = 1; } missing")
        with capturedLogs() as captured:
            await server.ask("/v2/hello/manifests/latest")
    (line,) = (formatEvent(event) for event in captured if "status" in event)
    assert line.endswith("attribute '{x}' in { a = 1; } missing")


@pytest_twisted.ensureDeferred
async def test_manifests_that_were_sent() -> None:
    """Each manifest that is sent is told, by which tag, and whether it was sent whole, also when
    the answer is known; what is current, refused or not there is not."""
    sent = []
    digest = str(MANIFEST.digest)
    async with serving(on_manifest=lambda *facts: sent.append(facts)) as server:
        server.builder.made_from = Provenance("git:https://example.com/x", "1")
        for method in ("HEAD", "GET", "GET", "GET"):
            await server.ask("/v2/hello/manifests/v1", method)
            await server.ask(f"/v2/hello/manifests/{digest}", method)
        assert sent[:2] == [(digest, "v1", False), (digest, "", False)]
        assert sent[2:] == 3 * [(digest, "v1", True), (digest, "", True)]
        assert server.site.known.given > 0
        known = {"If-None-Match": f'"{digest}"'}
        assert (await server.ask("/v2/hello/manifests/v1", headers=known)).status == 304
        assert (await server.ask("/v2/hello/manifests/a!b")).status == 400
        other = Digest.of(b"other")
        assert (await server.ask(f"/v2/hello/manifests/{other}")).status == 404
        assert len(sent) == 8
