"""Rules for all tests: nothing is skipped in CI, the summary says what was real, a test that hangs
is ended, and nothing is left."""

import faulthandler
import functools
import importlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from twisted.internet.defer import Deferred

from tests.leftovers import RunFolder
from tests.turns import Turns
from tests.waiting import HUNG, TEST_LIMIT

# How long something takes is no property of it: machines are busy.
settings.register_profile("nixery", deadline=None)
settings.load_profile("nixery")

REAL = {"real_nix": "against real Nix", "real_client": "with real clients"}

_ran: Counter[str] = Counter()
_FOLDER = pytest.StashKey[RunFolder]()
_LEFT = pytest.StashKey[list[str]]()
_TURNS = pytest.StashKey[Turns]()
_HUNG = pytest.StashKey[Any]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Have all that the run makes in a folder of its own, whose name workers inherit, and Ctrl-C be
    what it is at a terminal.

    What a script has started in the background ignores it, and so would all that is started here.
    """
    # Of a worker's own: what a test starts there has the variables of pytest-xdist, too.
    if given := getattr(config, "workerinput", None):
        worker, top = given["workerid"], Path(os.environ["TMPDIR"])
        # Shorter than xdist's own, for the sake of UNIX sockets.
        config.option.basetemp = str(top / worker)
        config.stash[_HUNG] = _hung(top, worker).open("w")
        signal.signal(signal.SIGINT, _interrupt_once)
    else:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        folder = RunFolder.make()
        config.stash[_FOLDER] = folder
        config.stash[_LEFT] = []
        top = folder.path
        if config.option.basetemp is None:
            config.option.basetemp = str(top / "t")
    config.stash[_TURNS] = Turns(top)


def _interrupt_once(number: int, frame: object) -> None:
    """End the tests at ^C, but not what cleans up after them at the one that execnet adds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _hung(top: Path, worker: str) -> Path:
    """The file for the stacks of a worker's threads when one of its tests hangs."""
    return top / f"hung-{worker}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test fails that hangs, and says where.

    Tests that run undisturbed come first, so that workers wait for each other once. The short ones
    come last, so that workers end at about the same time.
    """
    items.sort(key=_place)
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


def _place(item: pytest.Item) -> int:
    marks = {mark.name for mark in item.iter_markers()}
    if "undisturbed" in marks:
        return 0
    return 1 if marks & {"real_nix", "early"} else 2


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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test waits for its turn before its time begins."""
    with item.config.stash[_TURNS].turn(item.get_closest_marker("undisturbed") is not None):
        return (yield)


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """Have a worker whose test hangs in the reactor end, and write where for the summary.

    What a worker prints itself is lost.
    """
    file = item.config.stash.get(_HUNG, None)
    if file is None or settings.method != "thread":
        return None
    faulthandler.dump_traceback_later(settings.timeout, exit=True, file=file)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """Let it go on."""
    if _HUNG in item.config.stash:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``CI=true`` a skipped test is a failure."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests that ran for real, in whichever process."""
    if report.when == "call" and not report.skipped:
        _ran.update(mark for mark in REAL if mark in report.keywords)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(report: Any) -> None:
    """Say in the summary where a worker was when it ended."""
    stacks = _hung(Path(os.environ["TMPDIR"]), report.node.gateway.id)
    if stacks.exists():
        report.longrepr += f"\n{stacks.read_text()}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End and remove what is left, when all workers have ended."""
    if _FOLDER in session.config.stash:
        session.config.stash[_FOLDER].remove(session.config.stash[_LEFT].append)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many tests ran against the real things, and what was left."""
    for mark, words in REAL.items():
        terminalreporter.write_line(f"{_ran[mark]} tests ran {words}")
    for line in config.stash.get(_LEFT, []):
        terminalreporter.write_line(line)
