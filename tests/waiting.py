"""How tests wait: for what they wait for, never for a number of seconds."""

import importlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil
from twisted.internet.task import deferLater

HUNG = 600
"""Seconds after which what a test waits for is taken to never come.

Only a test that hangs depends on it: it is far more than anything takes on a busy machine. What
needs a time limit in a test (sockets, programs, pages) has this one.
"""
TEST_LIMIT = 1.5 * HUNG
"""Seconds after which a test fails, wherever it hangs."""


def wait_until(happened: Callable[[], object], why: str = "it did not happen") -> None:
    """Look again and again until something is so.

    :param why: what a test that hangs fails with.
    """
    assert within(HUNG, happened), why


def within(seconds: float, happened: Callable[[], object]) -> bool:
    """Look again and again whether something is so, and say whether it was in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


async def until(true: Callable[[], object]) -> None:
    """The same while the reactor runs, which the limit of the whole test ends."""
    reactor: Any = importlib.import_module("twisted.internet.reactor")  # installs one: not before
    while not true():
        await deferLater(reactor, 0.005, lambda: None)


def lives(process: psutil.Process) -> bool:
    """Whether a process runs. One that nobody has waited for is no more: where process 1 does not
    wait for orphans, they stay in the list of processes."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: Iterable[psutil.Process]) -> None:
    """Wait until no process of some runs any more."""
    family = list(processes)
    wait_until(lambda: not any(map(lives, family)), f"some are left of {family}")
