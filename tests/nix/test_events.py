"""Nix's log, as events."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.events import (
    BuildStarted,
    BuildStopped,
    Event,
    FetchStarted,
    LogLine,
    PhaseStarted,
    Planned,
    Said,
)
from nixery.nix.events import EventParser, plain

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = ["2.8", "2.26", "2.34"]


def parse(*lines: bytes) -> list[Event]:
    parser = EventParser()
    return [event for line in lines for event in parser.feed(line)]


def sample(name: str) -> list[Event]:
    return parse(*(SAMPLES / f"{name}.ndjson").read_bytes().splitlines())


@pytest.mark.parametrize("version", VERSIONS)
def test_concurrent_builds_separate(version: str) -> None:
    """Each log line belongs to the derivation that printed it, in every version's format."""
    events = sample(f"build-fail-{version}")
    lines = [
        event.line for event in events if event == LogLine("broken-1.0", getattr(event, "line", ""))
    ]
    assert lines == ["unpacking sources", "building", "error: undeclared identifier 'frobnicate'"]
    assert BuildStarted("broken-1.0") in events
    assert LogLine("noisy-1.0", "no newline at end") in events
    assert any(isinstance(event, Planned) and "will be built" in event.text for event in events)


@pytest.mark.parametrize("version", VERSIONS)
def test_downloads(version: str) -> None:
    """Paths that are fetched are named with where they come from."""
    fetched = [e for e in sample(f"substitute-{version}") if isinstance(e, FetchStarted)]
    assert fetched
    assert all(event.path.startswith("/nix/store/") for event in fetched)
    assert all(event.origin.startswith("file://") for event in fetched)


def message(**fields: object) -> bytes:
    return b"@nix " + json.dumps(fields).encode()


def test_a_build_from_start_to_stop() -> None:
    """A derivation's start, phases, lines and stop are told, and nothing after that."""
    drv = "/nix/store/" + "a" * 32 + "-x-1.drv"
    start = message(action="start", id=1, level=3, type=105, text="", fields=[drv, "", 1, 1])
    events = parse(
        start,
        message(action="result", id=1, type=104, fields=["buildPhase"]),
        message(action="result", id=1, type=101, fields=["hello"]),
        message(action="stop", id=1),
        message(action="result", id=1, type=101, fields=["too late"]),
        message(action="stop", id=1),
    )
    assert events == [
        BuildStarted("x-1"),
        PhaseStarted("x-1", "buildPhase"),
        LogLine("x-1", "hello"),
        BuildStopped("x-1"),
    ]


def test_plain_lines() -> None:
    """What is not in Nix's format is passed on as text."""
    assert parse(b"fatal: no such repository", b"") == [Said(1, "fatal: no such repository")]


def test_credentials_are_not_told() -> None:
    """No text of Nix or git, and no binary cache's address, shows what stands before a host."""
    url = "https://user:secret@example.com/x"
    events = parse(
        f"fatal: unable to access '{url}/': no route".encode(),
        message(action="msg", level=0, msg=f"error: cannot fetch '{url}'"),
        message(action="msg", level=3, msg=f"copying from {url}"),
        message(action="start", id=1, type=108, text="", fields=["/nix/store/x", url]),
    )
    assert len(events) == 4
    assert "secret" not in repr(events)
    assert repr(events).count("https://example.com/x") == 4


@given(st.lists(st.binary(max_size=80)))
def test_any_bytes(lines: list[bytes]) -> None:
    """No line, however odd, is an error."""
    parse(*lines, *(b"@nix " + line for line in lines))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(["start", "stop", "result", "msg", "x"]), JSON, JSON, JSON)
def test_any_document(action: str, number: object, kind: object, fields: object) -> None:
    """No document, however odd, is an error."""
    parse(message(action=action, id=number, type=kind, fields=fields, level=kind, msg=fields))


def test_escapes_are_taken_out() -> None:
    """Colours, titles and other terminal commands are no part of a text."""
    assert (
        plain("\x1b[31;1merror:\x1b[0m a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1b(d") == "error: abcd"
    )
