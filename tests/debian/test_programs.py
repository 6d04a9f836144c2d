"""Other programs, run to their end."""

import threading

import pytest
from programs import SetupError, at_once, run

from tests.waiting import HUNG


def test_what_a_program_prints() -> None:
    """Output comes line by line, and as a whole; errors apart from it."""
    told: list[str] = []
    ran = run(["sh", "-c", "echo a; echo b >&2; echo c"], told.append)
    assert (ran.output, ran.errors, told) == ("a\nc\n", "b\n", ["a\n", "c\n"])


def test_a_program_that_fails() -> None:
    """Its last words are the reason, however many it printed."""
    with pytest.raises(SetupError, match=r"^sh failed: .*9999 10000$") as caught:
        run(["sh", "-c", "seq 10000 >&2; exit 3"])
    assert len(str(caught.value)) < 1000


def test_a_program_that_is_not_there() -> None:
    """It is named, to be installed."""
    with pytest.raises(SetupError, match="no-such-program is needed"):
        run(["no-such-program"])


def test_programs_speak_one_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they say is read: it is not in the language of the user."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL"]).output == "C\n"


def test_things_done_at_once() -> None:
    """Results are in the order of what they were made from; a failure ends what has not begun."""
    together = threading.Barrier(3)

    def wait(number: int) -> int:
        together.wait(timeout=HUNG)
        return number * 10

    assert at_once(wait, [1, 2, 3], 3) == [10, 20, 30]
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise SetupError("no")
        threading.Event().wait(0.01)

    with pytest.raises(SetupError):
        at_once(fail, range(10_000), 1)
    assert len(begun) < 10_000
