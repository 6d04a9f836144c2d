"""Builds that wait for each other."""

from nixery.builds.blocking import Blocking
from nixery.model.events import Blocked, BuildStarted, BuildStopped, Unblocked


def test_until_it_is_made() -> None:
    """A build that is held is freed when the derivation with that output is made no longer, and by
    no other."""
    freed: list[str] = []
    blocking = Blocking(freed.append)
    blocking.note("a", BuildStarted("slow-1.0"))
    blocking.note("a", BuildStarted("other"))
    blocking.note("b", Blocked(("slow-1.0-dev", "slow-1.0")))
    assert blocking.is_blocked("b")
    outputs = blocking.end("b")
    assert outputs == ("slow-1.0-dev", "slow-1.0")
    blocking.hold("b", outputs)
    assert blocking.is_made("b")
    assert not blocking.note("a", BuildStopped("other"))
    assert freed == []
    assert blocking.note("a", BuildStopped("slow-1.0"))
    assert freed == ["b"]


def test_until_its_maker_ends() -> None:
    """It is freed, too, when the build that makes that derivation ends in whatever way."""
    freed: list[str] = []
    blocking = Blocking(freed.append)
    blocking.note("a", BuildStarted("slow"))
    blocking.hold("b", ["slow"])
    assert blocking.end("a") is None
    assert freed == ["b"]
    assert not blocking.is_made("b")


def test_what_goes_on() -> None:
    """A build that has something to do again waits for nothing, and one that was released is not
    freed again."""
    freed: list[str] = []
    blocking = Blocking(freed.append)
    blocking.note("b", Blocked(("x",)))
    blocking.note("b", Unblocked())
    assert not blocking.is_blocked("b")
    assert blocking.end("b") is None
    blocking.note("a", BuildStarted("x"))
    blocking.hold("b", ["x"])
    blocking.release("b")
    blocking.note("a", BuildStopped("x"))
    assert freed == []
