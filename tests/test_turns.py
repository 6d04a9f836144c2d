"""Turns of tests that run beside each other."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.turns import Turns
from tests.waiting import wait_until

TOP = Path(__file__).resolve().parents[1]
TAKER = """
import sys
from pathlib import Path
from tests.turns import Turns
folder, alone = Path(sys.argv[1]), sys.argv[2] == "alone"
print("asks", flush=True)
with Turns(folder).turn(alone):
    print("begins", flush=True)
    input()
"""


class Taker:
    """A process that asks for a turn, and has it until it is told to end."""

    def __init__(self, folder: Path, kind: str, stack: ExitStack) -> None:
        command = [sys.executable, "-c", TAKER, str(folder), kind]
        self._said = folder / f"said-{kind}-{id(self)}"
        with self._said.open("w") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=said, cwd=TOP, text=True
            )
        self.process = stack.enter_context(process)
        stack.callback(process.kill)
        wait_until(lambda: self.lines)

    @property
    def lines(self) -> list[str]:
        return self._said.read_text().splitlines()

    @property
    def begun(self) -> bool:
        return "begins" in self.lines

    @property
    def waits(self) -> bool:
        """Whether the kernel says that it waits for a lock."""
        locks = Path("/proc/locks").read_text().splitlines()
        return any("->" in line and str(self.process.pid) in line.split() for line in locks)

    def end(self) -> None:
        self.process.communicate("\n")


def test_usual_turns_are_shared(tmp_path: Path) -> None:
    """Two tests run beside each other."""
    with ExitStack() as stack:
        takers = [Taker(tmp_path, "shared", stack) for _ in range(2)]
        wait_until(lambda: all(taker.begun for taker in takers))


def test_a_turn_alone(tmp_path: Path) -> None:
    """A test that has its turn alone begins when those that run have ended, before those that come
    later, and nothing runs beside it."""
    with ExitStack() as stack:
        first = Taker(tmp_path, "shared", stack)
        wait_until(lambda: first.begun)
        alone = Taker(tmp_path, "alone", stack)
        wait_until(lambda: alone.waits)
        later = Taker(tmp_path, "shared", stack)
        wait_until(lambda: later.waits)
        assert not alone.begun
        first.end()
        wait_until(lambda: alone.begun)
        wait_until(lambda: later.waits)
        assert not later.begun
        alone.end()
        wait_until(lambda: later.begun)


def test_a_test_that_is_killed(tmp_path: Path) -> None:
    """The turn of a process that is killed is over."""
    with ExitStack() as stack:
        alone = Taker(tmp_path, "alone", stack)
        wait_until(lambda: alone.begun)
        alone.process.kill()
        with Turns(tmp_path).turn(alone=True):
            pass
