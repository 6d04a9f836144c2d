"""The daemon as a service: it starts, listens, reports and stops."""

import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.lifecycle import Component, InOrder
from nixery.service import RegistryService, SiteAt
from tests.endpoints import FakeEndpoint

reactor: Any = _reactor


class Parts:
    """A registry whose parts do nothing but look whether all is ready."""

    def __init__(self, look: Callable[[], Coroutine[Any, Any, str | None]] | None) -> None:
        self.parts = InOrder()
        self._look = look

    async def listens(self, url: str) -> None:
        pass

    async def look(self) -> str | None:
        assert self._look is not None, "it does not get so far"
        return await self._look()

    async def reload(self) -> None:
        """There is nothing to read."""

    async def release(self) -> None:
        """There is nobody."""

    async def drain(self) -> None:
        """There is nobody."""


class EndingReactor:
    """What is asked of a reactor when the daemon can't run."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def seconds(self) -> float:
        """It is always the beginning."""
        return 0.0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        """It never does."""

    def addSystemEventTrigger(self, *arguments: Any) -> None:
        self.asked.append(arguments)

    def stop(self) -> None:
        self.asked.append(("stop",))


@pytest_twisted.ensureDeferred
async def test_a_failed_start_ends_the_daemon() -> None:
    """Where nothing can be listened on, the daemon says why, and ends with exit code 1."""

    endpoint, ending = FakeEndpoint(), EndingReactor()
    endpoint.result = fail(OSError("it is in use"))
    service = RegistryService(ending, [SiteAt(endpoint, Factory())], Parts(None), 1, {})
    with capturedLogs() as captured:
        service.startService()
    assert "cannot start: it is in use" in [formatEvent(event) for event in captured]
    assert ending.asked == [("after", "shutdown", os._exit, 1), ("stop",)]


def service_that_looks(look: Callable[[], Coroutine[Any, Any, str | None]]) -> RegistryService:
    return RegistryService(reactor, [SiteAt(FakeEndpoint(), Factory())], Parts(look), 1, {})


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("shell/jq", "ready; try: docker pull localhost:4321/shell/jq"),
        (None, "ready"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_ready(image: str | None, said: str) -> None:
    """The daemon is said to be ready when that is known, with an image to try if there is one; it
    listens before."""
    known: Deferred[None] = Deferred()

    async def look() -> str | None:
        await known
        return image

    service = service_that_looks(look)
    with capturedLogs() as captured:
        service.startService()
        assert service.started is not None
        await service.started
        assert [formatEvent(event) for event in captured] == ["listening on localhost:4321"]
        known.callback(None)
    assert formatEvent(captured[-1]) == said
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_parts_stop_whatever_fails_before() -> None:
    """What fails while clients are let go is logged, and the parts are stopped all the same."""

    class Failing(Parts):
        async def release(self) -> None:
            raise RuntimeError("released")

        async def drain(self) -> None:
            raise RuntimeError("drained")

    stopped: list[str] = []
    parts = Failing(None)
    Component(None, lambda: stopped.append("a part")).setServiceParent(parts.parts)
    service = RegistryService(reactor, [SiteAt(FakeEndpoint(), Factory())], parts, 1, {})
    service.startService()
    assert service.started is not None
    await service.started
    with capturedLogs() as captured:
        await service.stopService()
    assert stopped == ["a part"]
    failures = [
        event["log_failure"].getErrorMessage() for event in captured if "log_failure" in event
    ]
    assert {"released", "drained"} <= set(failures)


@pytest_twisted.ensureDeferred
async def test_stopped_before_it_is_ready() -> None:
    """A daemon that is stopped looks no more, and that is no fault; one that never gets ready is
    not said to be."""
    given_up: list[object] = []

    async def look() -> str | None:
        await Deferred(given_up.append)
        return "shell/jq"

    service = service_that_looks(look)
    with capturedLogs() as captured:
        service.startService()
        assert service.started is not None
        await service.started
        await service.stopService()
    assert len(given_up) == 1
    assert [formatEvent(event) for event in captured] == ["listening on localhost:4321"]


class Recorded:
    """A registry that notes what is done about it.

    :ivar answered: fires when all clients have their answers.
    """

    def __init__(self, endpoints: list[FakeEndpoint]) -> None:
        self.done: list[str] = []
        self.answered: Deferred[None] = Deferred()
        self.parts = InOrder(Component(lambda: self._do("start"), lambda: self._do("stop")))
        self._endpoints = endpoints

    def _do(self, what: str) -> None:
        """Note it, with how many endpoints are listened at meanwhile."""
        listening = [each for each in self._endpoints if each.site is not None and each.port.open]
        self.done.append(f"{what} {len(listening)}")

    async def listens(self, url: str) -> None:
        self._do(f"listen as {url}")

    async def look(self) -> str | None:
        await Deferred()
        return None

    async def reload(self) -> None:
        self._do("reload")

    async def release(self) -> None:
        self._do("release")

    async def drain(self) -> None:
        self._do("drain")
        await self.answered


@pytest.mark.parametrize("in_time", [True, False])
def test_in_order(in_time: bool) -> None:
    """It listens when the parts have started. When it stops, those who wait are released, no more
    clients come in, all get their answers, within the patience, and only then the parts stop; what
    is watched is served until the end."""
    endpoints = [FakeEndpoint(), FakeEndpoint()]
    registry, clock = Recorded(endpoints), Waiting()
    sites = [SiteAt(each, Factory()) for each in endpoints]
    service = RegistryService(clock, sites, registry, 30, {})
    service.startService()
    with capturedLogs() as captured:
        stopped: list[object] = []
        service.stopService().addCallback(stopped.append)
        assert registry.done == ["start 0", f"{LISTENS} 2", "release 2", "drain 1"]
        if in_time:
            registry.answered.callback(None)
        else:
            clock.advance(30)
    assert registry.done[4:] == ["stop 1"]
    assert len(stopped) == 1
    assert not any(each.port.open for each in endpoints)
    assert clock.getDelayedCalls() == []
    cut = "some answers were not finished in time and are cut off"
    assert (cut in [formatEvent(event) for event in captured]) == (not in_time)


LISTENS = "listen as http://localhost:4321"


class Waiting(Clock):
    """A reactor that never runs, at a time of the test's own."""

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        """It never does."""


class Running(Clock):
    """A reactor that runs, at a time of the test's own."""

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        call()

    def callFromThread(self, call: Callable[[], None]) -> None:
        call()


def test_signals() -> None:
    """At HUP, what can be is read again; a signal while answers are finished cuts them; and when
    it has stopped, signals are handled as before."""
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    endpoint = FakeEndpoint()
    registry = Recorded([endpoint])
    service = RegistryService(Running(), [SiteAt(endpoint, Factory())], registry, 30, {})
    service.startService()
    signal.raise_signal(signal.SIGHUP)
    stopped: list[object] = []
    service.stopService().addCallback(stopped.append)
    assert registry.done == ["start 0", f"{LISTENS} 1", "reload 1", "release 1", "drain 0"]
    assert stopped == []
    signal.raise_signal(signal.SIGTERM)
    assert (registry.done[5:], len(stopped)) == (["stop 0"], 1)
    after = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    assert after == before
