"""Answers that are kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.nix.remember import PATIENCE, PAUSE, Memory, Remembered
from tests.nix.clock import SteppedClock

reactor: Any = _reactor


class Remote:
    """Answers as it is told, and counts how often it is asked."""

    def __init__(self, answer: Any = "one") -> None:
        self.answer = answer
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Deferred):
            return str(await self.answer)
        return str(self.answer)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.json"


@pytest.fixture
def memory(clock: SteppedClock, file: Path) -> Memory:
    return Memory(clock, 30, True, str(file))


@pytest_twisted.ensureDeferred
async def test_old_answers_while_there_is_no_new_one(memory: Memory, clock: SteppedClock) -> None:
    """A remote that fails is asked again when the answer has passed its time once more, and a new
    answer is a fresh one."""
    remote = Remote()
    assert await memory.get("x", remote.ask) == Remembered("one", False)
    remote.answer = SourceUnavailable("it", "is away")
    clock.advance(31)
    assert await memory.get("x", remote.ask) == Remembered("one", True)
    assert await memory.get("x", remote.ask) == Remembered("one", True)
    assert remote.asked == 2
    remote.answer = "two"
    clock.advance(31)
    assert await memory.get("x", remote.ask) == Remembered("two", False)
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_a_remote_that_hangs(memory: Memory, clock: SteppedClock) -> None:
    """With an old answer, a new one is waited for a few seconds, and kept when it comes later."""
    remote = Remote()
    await memory.get("x", remote.ask)
    remote.answer = hanging = Deferred[str]()
    clock.advance(31)
    waiting = Deferred.fromCoroutine(memory.get("x", remote.ask))
    clock.advance(PATIENCE - 1)
    assert not waiting.called
    clock.advance(2)
    assert await waiting == Remembered("one", True)
    assert await memory.get("x", remote.ask) == Remembered("one", True)
    hanging.callback("two")
    assert await memory.get("x", remote.ask) == Remembered("two", False)
    assert remote.asked == 2
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_no_old_answers_if_not_wanted(clock: SteppedClock, file: Path) -> None:
    """Where old answers are not wanted, none is given, and none is written down."""
    memory = Memory(clock, 30, False, str(file))
    remote = Remote()
    await memory.get("x", remote.ask)
    remote.answer = SourceUnavailable("it", "is away")
    clock.advance(31)
    with pytest.raises(SourceUnavailable):
        await memory.get("x", remote.ask)
    await memory.stop()
    assert not file.exists()


@pytest_twisted.ensureDeferred
async def test_what_is_unknown_is_forgotten(
    memory: Memory, clock: SteppedClock, file: Path
) -> None:
    """A name that the remote no longer has is forgotten, in the file as well."""
    remote = Remote()
    await memory.get("x", remote.ask)
    remote.answer = UnknownTag("x", "it")
    clock.advance(31)
    for _ in range(2):
        with pytest.raises(UnknownTag):
            await memory.get("x", remote.ask)
    await memory.stop()
    assert json.loads(file.read_text()) == {}


@pytest_twisted.ensureDeferred
async def test_after_a_restart(memory: Memory, clock: SteppedClock, file: Path) -> None:
    """After a restart, answers are stale: the remote is asked before they are served."""
    for name in ("x", "y"):
        await memory.get(name, Remote(name).ask)
    await memory.stop()
    restarted = Memory(clock, 30, True, str(file))
    assert await restarted.get("x", Remote("new").ask) == Remembered("new", False)
    away = Remote(SourceUnavailable("it", "is away"))
    assert await restarted.get("y", away.ask) == Remembered("y", True)
    assert away.asked == 1
    await restarted.stop()


@pytest_twisted.ensureDeferred
async def test_newer_answers(memory: Memory, clock: SteppedClock) -> None:
    """A request for an answer from some time on gets one, however young the last is; an answer
    that was requested before does not do, and the next one serves all who wait."""
    remote = Remote()
    await memory.get("x", remote.ask)
    clock.advance(PAUSE)
    assert (await memory.newer("x", 0, remote.ask)).text == "one"
    assert remote.asked == 1
    remote.answer = first = Deferred[str]()
    early = Deferred.fromCoroutine(memory.newer("x", clock.seconds(), remote.ask))
    clock.advance(1)
    late = [
        Deferred.fromCoroutine(memory.newer("x", clock.seconds(), remote.ask)) for _ in range(100)
    ]
    remote.answer = second = Deferred[str]()
    first.callback("two")
    assert (await early).text == "two"
    assert not any(each.called for each in late)
    clock.advance(PAUSE)
    second.callback("three")
    assert {(await each).text for each in late} == {"three"}
    assert remote.asked == 3
    assert (await memory.get("x", remote.ask)).text == "three"
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_pauses_between_questions(memory: Memory, clock: SteppedClock) -> None:
    """The remote is not asked for one name again before a pause, also when the clock was set
    back."""
    remote = Remote()
    clock.advance(1000)
    await memory.get("x", remote.ask)
    clock.advance(PAUSE / 2)
    waiting = Deferred.fromCoroutine(memory.newer("x", clock.seconds(), remote.ask))
    assert remote.asked == 1
    clock.advance(PAUSE / 2)
    assert remote.asked == 2
    await waiting
    clock.rightNow -= 900
    waiting = Deferred.fromCoroutine(memory.newer("x", 1e6, remote.ask))
    waiting.addErrback(lambda _: None)
    assert remote.asked == 2
    clock.advance(PAUSE)
    assert remote.asked == 3
    waiting.cancel()
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_no_newer_answer(memory: Memory, clock: SteppedClock) -> None:
    """A request for a newer answer gets no older one if the remote can't be asked."""
    remote = Remote()
    await memory.get("x", remote.ask)
    remote.answer = SourceUnavailable("it", "is away")
    clock.advance(31)
    assert (await memory.get("x", remote.ask)).stale
    with pytest.raises(SourceUnavailable):
        await memory.newer("x", 0, remote.ask)
    await memory.stop()


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', "[" * 100_000, "\x00"])
@pytest_twisted.ensureDeferred
async def test_a_damaged_file(clock: SteppedClock, file: Path, content: str) -> None:
    """A file that holds something else counts as none."""
    file.parent.mkdir()
    file.write_text(content)
    memory = Memory(clock, 30, True, str(file))
    with pytest.raises(SourceUnavailable):
        await memory.get("x", Remote(SourceUnavailable("it", "is away")).ask)
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_that_cannot_be_written(clock: SteppedClock, tmp_path: Path) -> None:
    """Answers are given whether or not they can be written down."""
    (tmp_path / "file").touch()
    memory = Memory(clock, 30, True, str(tmp_path / "file" / "below"))
    assert await memory.get("x", Remote().ask) == Remembered("one", False)
    await memory.stop()


@pytest_twisted.ensureDeferred
async def test_a_write_that_fails_leaves_nothing(clock: SteppedClock, file: Path) -> None:
    """A new file that can't take its place is removed."""
    file.mkdir(parents=True)
    memory = Memory(clock, 30, True, str(file))
    assert await memory.get("x", Remote().ask) == Remembered("one", False)
    await memory.stop()
    assert list(file.parent.iterdir()) == [file]


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded(memory: Memory) -> None:
    """However many names are asked for, the oldest are forgotten."""
    remote = Remote()
    for number in range(1100):
        await memory.get(str(number), remote.ask)
    await memory.get("1099", remote.ask)
    assert remote.asked == 1100
    await memory.get("0", remote.ask)
    assert remote.asked == 1101
    await memory.stop()
