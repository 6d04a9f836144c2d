"""The log as JSON."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from nixery.watching.logs import json_line, json_observer


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


def test_to_a_file(tmp_path: Path) -> None:
    """twistd's log file is written to, if one is named."""
    observer = json_observer(str(tmp_path / "log"))
    observer({"log_time": 0.0, "log_format": "hello"})
    assert json.loads((tmp_path / "log").read_text())["message"] == "hello"
