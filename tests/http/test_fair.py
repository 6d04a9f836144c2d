"""Turns of clients at work that may take a bounded share of the time."""

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.access.guard import Guard
from nixery.http.fair import FairStarts, FairTurns
from nixery.web.auth import Auth
from tests.web.server import serving


class Work:
    """Work of some clients, at a time that the test makes."""

    def __init__(self, share: float = 0.25) -> None:
        self.clock: Any = Clock()
        self.turns = FairTurns(self.clock, share)
        self.begun: list[str] = []
        self.now: Deferred[None] = Deferred()

    def ask(self, client: str) -> "Deferred[None]":
        return Deferred.fromCoroutine(self._work(client))

    def finish(self, seconds: float) -> None:
        """Have what is done now take some time, and end."""
        self.clock.advance(seconds)
        done, self.now = self.now, Deferred()
        done.callback(None)

    async def _work(self, client: str) -> None:
        async with self.turns.turn(client):
            self.begun.append(client)
            await self.now


@pytest_twisted.ensureDeferred
async def test_clients_go_round() -> None:
    """A client that asks once waits for one turn of each other client, however much those ask."""
    work = Work()
    asked = [work.ask("greedy") for _ in range(5)] + [work.ask("a"), work.ask("b"), work.ask("a")]
    assert work.begun == ["greedy"]
    for _ in asked:
        work.finish(0)
        work.clock.advance(0)
    for each in asked:
        await each
    assert work.begun == ["greedy", "greedy", "a", "b", "greedy", "a", "greedy", "greedy"]
    assert work.turns.waiting == 0


@pytest_twisted.ensureDeferred
async def test_share_of_the_time() -> None:
    """After a turn there is a rest, so that turns have their share of the time and no more; but
    never a long one."""
    work = Work(share=0.25)
    first, second, third = (work.ask(client) for client in "abc")
    work.finish(0.1)
    await first
    work.clock.advance(0.29)
    assert work.begun == ["a"]
    work.clock.advance(0.02)
    assert work.begun == ["a", "b"]
    work.finish(100)
    await second
    work.clock.advance(1)
    assert work.begun == ["a", "b", "c"]
    work.finish(0)
    await third


@pytest_twisted.ensureDeferred
async def test_nobody_there() -> None:
    """Who comes when nobody works or rests has its turn at once."""
    work = Work()
    for _ in range(3):
        asked = work.ask("a")
        work.finish(0.1)
        await asked
        work.clock.advance(0.3)
    assert work.begun == ["a"] * 3
    assert not work.clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_who_leaves() -> None:
    """Who leaves while it waits, or in its turn, holds up nobody."""
    work = Work()
    first, second, third = (work.ask(client) for client in "aab")
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    assert work.turns.waiting == 1
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    work.now = Deferred()
    work.clock.advance(0)
    assert work.begun == ["a", "b"]
    work.finish(0)
    await third


class Starts:
    """Requests that each take a millisecond, at a time that the test makes."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.starts = FairStarts(self.clock)
        self.begun: list[str] = []

    def ask(self, client: str, running: int = 1) -> None:
        if self.starts.has_time(running):
            self.starts.begin(lambda: self._begin(client))
        else:
            self.starts.later(client, running, lambda: self._begin(client))

    def _begin(self, client: str) -> None:
        self.begun.append(client)
        self.clock.rightNow += 0.001

    def round(self) -> int:
        """Let a round of the reactor pass.

        :return: how many requests were begun in it.
        """
        before = len(self.begun)
        for call in self.clock.getDelayedCalls():
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        return len(self.begun) - before

    def rest(self) -> list[int]:
        """Let rounds pass until nothing is left to be done; how many were begun in each."""
        rounds = []
        while self.clock.getDelayedCalls():
            rounds.append(self.round())
        return rounds


def test_requests_begin_at_once() -> None:
    """As long as there is time in a round, requests begin when they come."""
    work = Starts()
    for number in range(3):
        work.ask(str(number))
    assert work.begun == ["0", "1", "2"]
    assert work.rest() == [0]


@pytest.mark.parametrize("running", [1, 100])
def test_one_request_among_many(running: int) -> None:
    """Whoever asks once waits for one request of each other client; a round begins no more than
    it has time for, and in the end all have begun."""
    work = Starts()
    for number in range(100):
        work.ask(f"greedy {number % 5}", running)
    work.ask("modest", running)
    assert max(work.rest()) <= 7
    assert work.begun.index("modest") <= 6 + 6
    assert len(work.begun) == 101


def test_clients_of_few_requests_go_first() -> None:
    """Whoever has few requests waits for none of those that have many but one in each round; and
    those get their turn however many others come."""
    work = Starts()
    for number in range(100):
        work.ask(f"greedy {number}", 100)
    for number in range(20):
        work.ask(f"modest {number}")
    for _ in range(8):
        work.round()
    first = work.begun[6:40]
    assert sum(name.startswith("modest") for name in first) == 20
    assert sum(name.startswith("greedy") for name in first) >= 4
    work.rest()
    assert len(work.begun) == 120


class Broken(Auth):
    """Fails where nothing is expected to."""

    @property
    def is_open(self) -> bool:
        raise RuntimeError("broken")


@pytest_twisted.ensureDeferred
async def test_faults_of_requests_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that had to wait and can't be begun has an answer, and the others their turn."""
    monkeypatch.setattr(FairStarts, "has_time", lambda self, running: False)
    with capturedLogs() as captured:
        async with serving(auth=Broken(Guard())) as server:
            answers = await gatherResults([Deferred.fromCoroutine(server.ask("/")) for _ in "abc"])
    assert [answer.status for answer in answers] == [500] * 3
    faults = [each["log_failure"].getErrorMessage() for each in captured if "log_failure" in each]
    assert faults == ["broken"] * 3
