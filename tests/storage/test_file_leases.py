# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Leases as files: whose holder gives no sign, though it has the lock."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.storage.filesystem.file_leases import TIMING, FileLeases, clear_leases, take_lease
from nixery.storage.held_lease import HeldLease


def instance(clock: Clock, folder: Path) -> FileLeases:
    """What gives out leases in a daemon that does all of its work at once."""

    def in_thread(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        return maybeDeferred(work, *args, **kwargs)

    return FileLeases(clock, in_thread, lambda: str(folder / "aside"))


def ask(clock: Clock, folder: Path) -> Deferred[HeldLease]:
    """Have a daemon wait for the lease."""
    return Deferred.fromCoroutine(instance(clock, folder).lease(str(folder / "0a")))


def pass_time(seconds: float, *clocks: Clock) -> None:
    for _ in range(int(seconds)):
        for clock in clocks:
            clock.advance(1)


@pytest_twisted.ensureDeferred
async def test_a_holder_that_is_stopped(tmp_path: Path) -> None:
    """The lease of a process that is there and does nothing is taken over after its lifetime; when
    it goes on, it sees that, and does not take the lease from its new holder."""
    stopped, running = Clock(), Clock()
    first = await ask(stopped, tmp_path)
    waiting = ask(running, tmp_path)
    pass_time(TIMING.lifetime - 2, running)
    assert not waiting.called
    with capturedLogs() as captured:
        pass_time(4, running)
        second = await waiting
        pass_time(TIMING.lifetime, stopped)
    told = [formatEvent(event) or "" for event in captured]
    assert [line for line in told if "is taken over" in line]
    assert [line for line in told if "was lost to another instance" in line]
    await first.release()
    third = ask(running, tmp_path)
    pass_time(3, running)
    assert not third.called
    await second.release()
    pass_time(1, running)
    await (await third).release()
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_a_holder_that_works(tmp_path: Path) -> None:
    """A lease is not taken over while its holder gives signs, however long that is."""
    holding, waiting = Clock(), Clock()
    lease = await ask(holding, tmp_path)
    asked = ask(waiting, tmp_path)
    pass_time(10 * TIMING.lifetime, holding, waiting)
    assert not asked.called
    await lease.release()
    pass_time(1, waiting)
    await (await asked).release()


@pytest_twisted.ensureDeferred
async def test_one_that_waited_while_it_was_stopped(tmp_path: Path) -> None:
    """One that waits and was stopped for long looks again before it takes a lease over."""
    holding, waiting = Clock(), Clock()
    lease = await ask(holding, tmp_path)
    asked = ask(waiting, tmp_path)
    pass_time(2 * TIMING.lifetime, holding)
    waiting.advance(2 * TIMING.lifetime)
    pass_time(5, waiting)
    assert not asked.called
    await lease.release()
    pass_time(1, waiting)
    await (await asked).release()


@pytest_twisted.ensureDeferred
async def test_several_take_over(tmp_path: Path) -> None:
    """Of several who find a lease left, one has it at a time."""
    take_lease(str(tmp_path / "0a"))
    clock = Clock()
    waiting = [ask(clock, tmp_path) for _ in range(3)]
    pass_time(TIMING.lifetime + 2, clock)
    while waiting:
        pass_time(1, clock)
        (held,) = [lease for lease in waiting if lease.called]
        waiting.remove(held)
        await (await held).release()


@pytest.mark.parametrize("foreign", ["contract.pdf", "cafe.txt", "0a"])
def test_clearing(tmp_path: Path, foreign: str) -> None:
    """What is removed at a start is told; files of another form, or that hold something, stay."""
    (tmp_path / "0b").touch()
    (tmp_path / foreign).write_text("somebody's")
    (tmp_path / "cafe").mkdir()
    held = take_lease(str(tmp_path / "0c"))
    assert clear_leases(str(tmp_path)) == ["0b"]
    assert (tmp_path / foreign).read_text() == "somebody's"
    assert {path.name for path in tmp_path.iterdir()} == {foreign, "cafe", "0c"}
    assert held is not None
    os.close(held)
