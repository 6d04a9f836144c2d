"""The log: as text or JSON, and in batches."""

import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure

from nixery.watching.logs import (
    DELAY,
    MOST,
    BatchingObserver,
    json_line,
    log_observer,
    text_line,
)


def test_a_line() -> None:
    """A line says when, how grave, from whom, in words, and the facts by their names."""
    event = {
        "log_time": 0.25,
        "log_level": LogLevel.warn,
        "log_namespace": "nixery.x",
        "log_format": "{name} is {size}",
        "name": "x",
        "size": 5,
        "thing": object(),
    }
    assert json.loads(json_line(event)) == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "warn",
        "logger": "nixery.x",
        "message": "x is 5",
        "name": "x",
        "size": 5,
    }


def test_failures() -> None:
    """A failure comes with its traceback."""
    try:
        raise ValueError("why")
    except ValueError:
        event = {"log_time": 0.0, "log_format": "oh", "log_failure": Failure()}
    assert "ValueError: why" in json.loads(json_line(event))["traceback"]


@given(st.text())
def test_nobody_forges_a_line(text: str) -> None:
    """Whatever is logged, it is one line of printable ASCII."""
    line = json_line({"log_time": 0.0, "log_format": "{text}", "text": text})
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.isascii()
    assert json.loads(line)["text"] == text


@given(st.floats())
def test_numbers(number: float) -> None:
    """Whatever a number is, the line is JSON, which knows no NaN."""
    line = json_line({"log_time": 0.0, "log_format": "{x}", "x": number})
    x = json.loads(line, parse_constant=lambda word: pytest.fail(word))["x"]
    assert x == number or x == str(number)


def pull(number: int, **more: object) -> LogEvent:
    """An event that may be written later."""
    level = LogLevel.info
    event = {"log_time": 1.5, "log_level": level, "log_namespace": "n", "log_format": "{a} {b:.1f}"}
    return {**event, "a": f"pull {number}", "b": 0.25, "log_later": True, **more}


OTHER: LogEvent = {"log_time": 2.0, "log_format": "other"}


class Written:
    """A log in memory, at a time that the test makes."""

    def __init__(self) -> None:
        clock: Any = Clock()
        self.clock = clock
        self.out = io.StringIO()
        self.observer = BatchingObserver(clock, self.out, text_line)

    @property
    def words(self) -> list[str]:
        return [line.split("] ")[1] for line in self.out.getvalue().splitlines()]


def test_batches() -> None:
    """Lines that may wait are written together, a moment later."""
    log = Written()
    for number in range(3):
        log.observer(pull(number))
    assert log.words == []
    log.clock.advance(DELAY)
    assert log.words == ["pull 0 0.2", "pull 1 0.2", "pull 2 0.2"]
    assert not log.clock.getDelayedCalls()
    log.observer(pull(3))
    log.clock.advance(DELAY)
    assert log.words[3:] == ["pull 3 0.2"]


def test_order() -> None:
    """Another line is written at once, behind those that wait: twistd's last one, too."""
    log = Written()
    log.observer(pull(0))
    log.observer(OTHER)
    assert log.words == ["pull 0 0.2", "other"]
    log.clock.advance(DELAY)
    assert log.words == ["pull 0 0.2", "other"]


def test_lines_that_wait_are_bounded() -> None:
    """However many lines come in a moment, few of them wait."""
    log = Written()
    for number in range(MOST + 1):
        log.observer(pull(number))
    assert len(log.words) == MOST
    log.clock.advance(DELAY)
    assert len(log.words) == MOST + 1


def test_events_amid_others() -> None:
    """What comes up in the very thread that writes, as by Python's garbage collector, is written
    too, and waits for nothing."""
    log = Written()

    def line(event: LogEvent) -> str | None:
        if event is not OTHER:
            log.observer(OTHER)
        return text_line(event)

    log.observer = BatchingObserver(log.clock, log.out, line)
    log.observer(pull(0))
    writing = threading.Thread(target=log.clock.advance, args=[DELAY], daemon=True)
    writing.start()
    writing.join(10)
    assert log.words == ["other", "pull 0 0.2"]


def test_an_event_that_cannot_be_written(tmp_path: Path) -> None:
    """An event that is no text, as with the path of a strange file, takes no others with it."""
    clock: Any = Clock()
    with open(tmp_path / "log", "w", encoding="utf-8") as out:
        observer = BatchingObserver(clock, out, text_line)
        observer(pull(0))
        with pytest.raises(UnicodeEncodeError):
            observer({"log_time": 2.0, "log_format": "{path}", "path": "\udcff"})
    assert "pull 0 0.2" in (tmp_path / "log").read_text()


@given(
    line=st.sampled_from([text_line, json_line]),
    text=st.text(),
    number=st.floats(0, 1e9),
    when=st.floats(0, 4e9),
)
@example(line=text_line, text="", number=0.0, when=1.9999995231628418)
def test_the_same_text(
    line: Callable[[LogEvent], str | None], text: str, number: float, when: float
) -> None:
    """A line that waited is what it would have been at once."""
    event = pull(0, a=text, b=number, log_time=when)
    at_once = {name: value for name, value in event.items() if name != "log_later"}
    assert line(event) == line(at_once)
    assert text_line(at_once) == formatEventAsClassicLogText(at_once)


@pytest.fixture
def signals() -> Iterator[None]:
    """The signal for another file, to which nobody listens before the test."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGUSR1, before)


class PlainClock(Clock):
    """A clock that makes at once what calls come from signals."""

    def callFromThread(self, call: Callable[[], object]) -> None:
        call()


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("in_json", [False, True])
def test_to_a_file(tmp_path: Path, in_json: bool) -> None:
    """twistd's log file is written to, if one is named, and replaced at the signal for that."""
    clock: Any = PlainClock()
    observer: Any = log_observer(clock, {"logfile": str(tmp_path / "log")}, in_json)
    observer(OTHER)
    assert "other" in (tmp_path / "log").read_text()
    signal.raise_signal(signal.SIGUSR1)
    observer(OTHER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]


@pytest.mark.usefixtures("signals")
def test_a_daemon_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the background, twistd's own log file is the default."""
    monkeypatch.chdir(tmp_path)
    clock: Any = PlainClock()
    observer: Any = log_observer(clock, {"nodaemon": 0}, False)
    observer(OTHER)
    assert "other" in (tmp_path / "twistd.log").read_text()


def test_to_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the foreground, the log goes to standard output."""
    clock: Any = Clock()
    for options in ({"nodaemon": 1}, {"nodaemon": 1, "logfile": "-"}):
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        observer: Any = log_observer(clock, options, False)
        observer(OTHER)
        assert "other" in out.getvalue()


def test_what_twistd_does_itself() -> None:
    """A log of text in syslog, and options that can't be, are left to twistd."""
    clock: Any = Clock()
    assert log_observer(clock, {"syslog": True}, False) is None
    for in_json in (False, True):
        assert log_observer(clock, {"logfile": "-"}, in_json) is None
