"""Nix's log, as events."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.events import (
    Blocked,
    BuildsPlanned,
    BuildStarted,
    BuildStopped,
    Event,
    FetchesPlanned,
    FetchProgress,
    FetchStarted,
    LogLine,
    PhaseStarted,
    Planned,
    Said,
    Unblocked,
)
from nixery.nix.internal_json import EventParser, Failing

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = ["2.8", "2.26", "2.34"]


def parse(*lines: bytes) -> list[Event]:
    parser = EventParser()
    events = [event for line in lines for event in parser.feed(line)]
    return [event for event in events if not isinstance(event, Failing)]


def line(**message: object) -> bytes:
    return b"@nix " + json.dumps(message).encode()


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
    assert BuildsPlanned(11) in events
    planned = [event.text for event in events if isinstance(event, Planned)]
    assert any("broken-1.0.drv" in text for text in planned)


def test_waiting_for_another_build() -> None:
    """When all that is left waits for what another run of Nix builds, that is told; not while there
    is something else to build. It is over when there is something to do again."""
    events = sample("wait-for-lock-2.8")
    kinds = BuildStarted | Blocked | Unblocked
    told = [event for event in events if isinstance(event, kinds)]
    assert told == [
        Blocked(("slow-1.0",)),
        BuildStarted("tiny-2-1.0"),
        Unblocked(),
        Blocked(("slow-1.0",)),
        Unblocked(),
        BuildStarted("n2"),
    ]


def test_waiting_for_machines() -> None:
    """Waiting for a build machine is not waiting for another build."""
    text = "waiting for a machine to build '/nix/store/" + "0" * 32 + "-x.drv'"
    assert parse(line(action="start", id=1, level=1, type=111, text=text)) == []


@pytest.mark.parametrize("text", ["x", "waiting for lock on 'x' and \u201cy\u201d"])
def test_locks_of_unknown_paths(text: str) -> None:
    """Whatever a lock is called, it is waited for."""
    start = line(action="start", id=1, level=1, type=111, text=f"waiting for lock on {text}")
    assert parse(start, line(action="stop", id=1)) == [Blocked(()), Unblocked()]


@pytest.mark.parametrize("version", VERSIONS)
def test_downloads(version: str) -> None:
    """Paths that are fetched are named with where they come from, and their number and sizes are
    told before."""
    (plan,) = [e for e in sample(f"substitute-{version}") if isinstance(e, FetchesPlanned)]
    assert plan.paths == 8
    assert plan.download == pytest.approx(736.1 * 1024, rel=0.01)
    assert plan.unpacked == pytest.approx(1.92 * 2**20, rel=0.02)
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


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("this derivation will be built:", BuildsPlanned(1)),
        ("these 1234 derivations will be built:", BuildsPlanned(1234)),
        (
            "this path will be fetched (1.00 MiB download, 2.50 GiB unpacked):",
            FetchesPlanned(1, 2**20, 5 * 2**29),
        ),
        (
            "these 2 paths will be fetched (100 B download, 3.0 KiB unpacked):",
            FetchesPlanned(2, 100, 3072),
        ),
        ("these many paths will be fetched:", Planned("these many paths will be fetched:")),
    ],
)
def test_plans(text: str, event: Event) -> None:
    """The numbers of Nix's plan are read, in all of its forms; others are told as text."""
    assert parse(message(action="msg", level=3, msg=text)) == [event]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=5), st.integers(1, 2000))
def test_progress(sizes: list[int], pieces: int) -> None:
    """However often Nix counts bytes, some hundreds of events tell them: they only grow, and the
    last one tells all."""
    parser = EventParser()

    def feed(**fields: object) -> list[Event]:
        return [e for e in parser.feed(message(**fields)) if not isinstance(e, Failing)]

    told = feed(action="result", id=99, type=106, fields=[100, sum(sizes)])
    for id, size in enumerate(sizes):
        told += feed(action="start", id=id, type=100, fields=["/nix/store/x", "a", "b"])
        for piece in range(1, pieces + 1):
            done = size * piece // pieces
            told += feed(action="result", id=id, type=105, fields=[done, size, 0, 0])
        told += feed(action="stop", id=id)
    counts = [event.done for event in told if isinstance(event, FetchProgress)]
    assert len(counts) == len(told) < 300
    assert counts == sorted(set(counts))
    assert counts[-1] == sum(sizes)


def test_plain_lines() -> None:
    """Lines that are not in Nix's format are passed on as text."""
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
