"""What a build tells of itself."""

from twisted.internet.task import Clock
from twisted.logger import (
    LogEvent,
    LogLevel,
    capturedLogs,
    formatEvent,
    formatEventAsClassicLogText,
)

from nixery.history.build_log import BuildLog
from nixery.model.events import (
    BuildsPlanned,
    BuildStarted,
    Collided,
    Event,
    FetchesPlanned,
    FetchStarted,
    Found,
    LogLine,
    Planned,
    Resolved,
    Said,
    Traced,
)

IMAGE = "git/jq:v1"
SHOWN: list[Event] = [
    *(Resolved("the set", "abc"), Found("git", "git", "git-1"), BuildStarted("git-1")),
    *(Collided("bin/x", "a", "b"), Said(0, "an error"), Said(1, "a warning")),
    *(BuildsPlanned(3), FetchesPlanned(2, 1000, 2000)),
]
HIDDEN: list[Event] = [
    *(LogLine("git-1", "checking for gcc"), Planned("2 paths"), FetchStarted("/x", "y")),
    Said(3, "chatter"),
]


def told(*events: Event) -> list[LogEvent]:
    with capturedLogs() as captured:
        journal = BuildLog(Clock(), IMAGE, "1", "r")
        for event in events:
            journal.emit(event)
    return list(captured)


def test_what_matters_is_told() -> None:
    """The steps of a build are told with its image, and packages' own lines are not."""
    logged = told(*SHOWN, *HIDDEN)
    assert len(logged) == 1 + len(SHOWN)
    assert {event["log_level"] for event in logged} == {LogLevel.info}
    assert all("git/jq:v1" in formatEvent(event) for event in logged)


def test_hostile_text_stays_within_its_line() -> None:
    """What packages are called and print forges no line of the log, no field of it, and is
    nothing that a terminal obeys."""
    hostile = "a\n2030-01-01 [x] b\r\x1b[31mred\x07{image} \udcff"
    with capturedLogs() as captured:
        journal = BuildLog(Clock(), IMAGE, "1", "r")
        for event in (Said(0, hostile), Collided(hostile, "a", "b"), LogLine("x", hostile)):
            journal.emit(event)
        journal.failed(hostile, "BuildFailed")
    assert len(captured) == 4
    for logged in captured:
        first, *others = (formatEventAsClassicLogText(logged) or "").rstrip().split("\n")
        assert all(line.startswith("\t") for line in others)
        assert "".join([first, *others]).replace("\t", "").isprintable()
    assert "{image}" in formatEvent(captured[-1])


def test_what_is_said_for_ever_fills_no_log() -> None:
    """Of what there may be any number of, the log has a part, and says that there is more; other
    steps and the end are told all the same."""
    with capturedLogs() as captured:
        journal = BuildLog(Clock(), IMAGE, "1", "r")
        for number in range(10_000):
            journal.emit(Said(0, f"trace: {number}"))
        journal.emit(Collided("bin/x", "a", "b"))
        journal.failed("it did not finish", "EvaluationFailed")
    lines = [formatEvent(event) for event in captured]
    assert len(lines) < 500
    assert "history" in lines[-3]
    assert "/bin/x" in lines[-2]
    assert "it did not finish" in lines[-1]


def test_traces_are_told_line_by_line() -> None:
    """The whole of what Nix said is in the log, in as many lines as there is room for."""
    with capturedLogs() as captured:
        journal = BuildLog(Clock(), IMAGE, "1", "r")
        journal.emit(Traced("error: no\n   at /srv/x.nix:1:2"))
        for number in range(10):
            journal.emit(Traced(f"line {number}\n" * 100))
    lines = [formatEvent(event) or "" for event in captured]
    assert "Nix in full: error: no" in lines[1]
    assert "Nix in full: at /srv/x.nix:1:2" in lines[2]
    assert "left out" in lines[-1]
    assert len(lines) < 250


def test_the_end_is_told_with_the_time_it_took() -> None:
    """A build's end says what came of it, and how long it took."""
    clock = Clock()
    with capturedLogs() as captured:
        journal = BuildLog(clock, IMAGE, "1", "r")
        clock.advance(2.5)
        journal.done("sha256:x")
        journal.failed("it is broken", "BuildFailed")
    done, failed = map(formatEvent, captured[1:])
    assert "sha256:x" in done
    assert "2.500 s" in done
    assert "it is broken" in failed
    assert [each.get("outcome") for each in captured] == [None, "done", "BuildFailed"]


def test_whose_build_it_is() -> None:
    """Every line has the build's ID and the request's, and the latter in its words too."""
    captured = told(*SHOWN)
    assert {(each["build"], each["request"]) for each in captured} == {("1", "r")}
    assert all(formatEvent(each).startswith(f"r {IMAGE} ") for each in captured)
