"""What holds for all tests: nothing is skipped in CI, and the summary says what was real."""

import os
from collections import Counter
from collections.abc import Generator

import pytest
from hypothesis import settings

# How long something takes is no property of it: machines are busy.
settings.register_profile("nixery", deadline=None)
settings.load_profile("nixery")

REAL = {"real_nix": "against real Nix", "real_client": "with real clients"}

_ran: Counter[str] = Counter()


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran against the real things."""
    for mark, words in REAL.items():
        terminalreporter.write_line(f"{_ran[mark]} tests ran {words}")
