"""What holds for all tests: nothing is skipped in CI, the summary says what was real, whoever
hangs is ended, and nothing is left."""

import functools
import importlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
from hypothesis import settings
from twisted.internet.defer import Deferred

from tests.leftovers import RunFolder
from tests.waiting import HUNG, TEST_LIMIT

# How long something takes is no property of it: machines are busy.
settings.register_profile("nixery", deadline=None)
settings.load_profile("nixery")

REAL = {"real_nix": "against real Nix", "real_client": "with real clients"}

_ran: Counter[str] = Counter()
_FOLDER = pytest.StashKey[RunFolder]()
_LEFT = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have all that the run makes in a folder of its own, and Ctrl-C be what it is at a terminal.

    What a script has started in the background ignores it, and so would all that is started here.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = RunFolder.make()
    config.stash[_FOLDER] = folder
    config.stash[_LEFT] = []
    if config.option.basetemp is None:
        config.option.basetemp = str(folder.path / "t")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test fails that hangs, and says where."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if _is_async(item.obj):
            item.obj = _limited(item.obj)
        # In the reactor, a signal handler that raises would end it. If a test can't be cancelled
        # there, a thread shows where it hangs, and ends the run.
        handle = getattr(item.obj, "hypothesis", None)
        in_reactor = _is_async(item.obj) or (handle is not None and _is_async(handle.inner_test))
        limit, method = (TEST_LIMIT + HUNG, "thread") if in_reactor else (TEST_LIMIT, "signal")
        item.add_marker(pytest.mark.timeout(limit, method=method))


def _is_async(test: object) -> bool:
    return getattr(test, "_pytest_twisted_mark", None) == "async_test"


def _limited(
    test: Callable[..., Coroutine[Deferred[Any], Any, None]],
) -> Callable[..., Awaitable[None]]:
    """A test that is cancelled, where it waits, when its time is over."""

    @functools.wraps(test)
    async def run(*arguments: Any, **named: Any) -> None:
        reactor: Any = importlib.import_module("twisted.internet.reactor")
        running = Deferred.fromCoroutine(test(*arguments, **named))
        end = reactor.callLater(TEST_LIMIT, running.cancel)
        try:
            await running
        finally:
            if end.active():
                end.cancel()

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``CI=true`` a skipped test is a failure; what ran for real is counted."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    if report.when == "call" and not report.skipped:
        _ran.update(mark.name for mark in item.iter_markers() if mark.name in REAL)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End and remove what is left."""
    session.config.stash[_FOLDER].remove(session.config.stash[_LEFT].append)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many tests ran against the real things, and what was left."""
    for mark, words in REAL.items():
        terminalreporter.write_line(f"{_ran[mark]} tests ran {words}")
    for line in config.stash[_LEFT]:
        terminalreporter.write_line(line)
