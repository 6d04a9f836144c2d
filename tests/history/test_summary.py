"""A build in short."""

from nixery.history.summary import Summary
from nixery.model.events import Collided, Event, Found, Furnished, Queued


def noted(*events: Event) -> Summary:
    summary = Summary()
    for event in events:
        summary.note(event, 1.0)
    return summary


def test_what_collided() -> None:
    """All collisions are counted, and the first ones are named."""
    events = [Collided(f"bin/{number}", "a", "b") for number in range(300)]
    collided = noted(*events).document()["collided"]
    assert collided["count"] == 300
    assert collided["first"][0] == {"name": "bin/0", "kept": "a", "lost": "b"}
    assert len(collided["first"]) == 200


def test_a_build_that_begins_anew() -> None:
    """Nothing is told of an image whose build waits for another turn: what it found comes again."""
    events: list[Event] = [
        Found("jq", "jq", "jq-1.6"),
        Collided("bin/x", "a", "b"),
        Furnished((), ("jq",), ("jq",), ()),
    ]
    before = noted(*events).document()
    assert noted(*events, Queued(1, 0), *events).document() == {
        **before,
        "queued": {"running": 1, "waiting": 0},
    }
    waiting = noted(*events, Queued(1, 0)).document()
    assert waiting["collided"] == {"count": 0, "first": []}
    assert (waiting["packages"], waiting["furnished"]) == ([], None)
