"""The steps of a build, from its events."""

from hypothesis import given
from hypothesis import strategies as st

from nixery.model import events
from nixery.model.events import Event
from nixery.model.timeline import MOST, Step, Timeline

DIGEST = "sha256:" + "a" * 64
USUAL: list[Event] = [
    events.Queued(4, 1),
    events.Resolved("git:https://example.com/packages.git", "r1"),
    events.Evaluating(),
    events.Found("git", "git", "git-2.39"),
    events.BuildsPlanned(2),
    events.BuildStarted("zlib-1"),
    events.PhaseStarted("zlib-1", "buildPhase"),
    events.BuildStarted("git-2.39"),
    events.BuildStopped("zlib-1"),
    events.BuildStopped("git-2.39"),
    events.Realised(3, 900),
    events.Grouped(2, 1),
    events.Packed(DIGEST, 100, 300, ("/nix/store/x",)),
    events.Stored(DIGEST),
    events.Done("sha256:" + "b" * 64),
]


def timeline(made: list[Event], until: float = 1000.0) -> tuple[list[Step], Timeline]:
    """The steps of events of which one comes each second."""
    found = Timeline()
    for second, event in enumerate(made):
        found.note(event, float(second))
    return list(found.steps(until)), found


def test_a_build() -> None:
    """Each step begins and ends with the events that it is of, and lies in the one that it is a
    part of; the phases of a derivation are marked in it."""
    steps, found = timeline(USUAL)
    told = [
        (step.name, step.began, step.ended, step.within.name if step.within else None)
        for step in steps
    ]
    assert told == [
        ("queue", 0, 2, None),
        ("evaluate", 2, 4, None),
        ("realise", 4, 10, None),
        ("build", 5, 8, "realise"),
        ("build", 7, 9, "realise"),
        ("furnish", 10, 11, None),
        ("pack", 11, 14, None),
        ("store", 12, 13, "pack"),
    ]
    assert steps[3].facts == {"nixery.derivation": "zlib-1"}
    assert steps[3].marks == [("buildPhase", 6.0)]
    assert steps[7].facts == {"nixery.digest": DIGEST, "nixery.size": 100}
    assert found.facts["nixery.revision"] == "r1"
    assert found.facts["nixery.layers.known"] == 1
    assert not any(step.fault for step in steps)


def test_a_derivation_that_fails() -> None:
    """The derivation that failed says why, and so does the step that it was a part of; the other
    one ends with it."""
    made = [*USUAL[:8], events.Failed("it does not compile", "git-2.39")]
    steps, _ = timeline(made)
    faults = {(step.name, *step.facts.values()): step.fault for step in steps if step.fault}
    assert faults == {
        ("realise",): "it does not compile",
        ("build", "git-2.39"): "it does not compile",
    }
    assert all(step.ended is not None and step.ended <= 8 for step in steps)


def test_two_turns() -> None:
    """A build that gives its turn back waits again: what it had begun ends there."""
    steps, _ = timeline([*USUAL[:6], *USUAL])
    assert [step.name for step in steps].count("queue") == 2
    first = next(step for step in steps if step.name == "build")
    assert (first.began, first.ended) == (5, 6)


def test_bounded() -> None:
    """However many derivations there are, a bounded number has a step each; the others are
    counted."""
    many: list[Event] = [events.BuildStarted(f"x-{number}") for number in range(MOST + 7)]
    steps, found = timeline([events.Evaluating(), *many])
    assert len(steps) == MOST + 2
    assert found.facts["nixery.omitted.build"] == 7


ANY = st.one_of(
    st.sampled_from(USUAL),
    st.builds(events.BuildStarted, st.sampled_from("xyz")),
    st.builds(events.BuildStopped, st.sampled_from("xyz")),
    st.builds(events.Failed, st.text(), st.sampled_from(["x", None])),
    st.just(events.Skipped(None)),
)


@given(st.lists(ANY), st.lists(st.floats(0, 1e9), min_size=1))
def test_any_events(made: list[Event], times: list[float]) -> None:
    """Whatever comes, in whichever order, by whichever clock, every step has an end that is not
    before its beginning, and follows the one that it is a part of."""
    found = Timeline()
    for number, event in enumerate(made):
        found.note(event, times[number % len(times)])
    seen: list[Step | None] = [None]
    for step in found.steps(times[0]):
        assert step.within in seen
        assert step.ended is not None
        assert step.ended >= step.began
        seen.append(step)
