"""A program's keeper: ``python -I -S keeper.py PARENT GRACE PROGRAM ARGUMENT…``.

It runs a program and stays with it, so that nobody of its descendants is there any more when it
ends, whatever sessions they have made for themselves and whichever of their parents has ended:
the kernel gives orphans to the keeper, and the keeper ends them. Nix before 2.19, killed, leaves
its builders running, and a builder without a sandbox can start whatever it likes.

On TERM, which the kernel sends when the parent dies, the program's group gets a TERM, and after
the grace all descendants a KILL. The keeper ends as its program did: with its exit code, or by
its signal.

It is a script that knows nothing of Nixery and imports little: it starts within 10 ms.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_NOT_FOUND = 127
_AWAITED = (signal.SIGTERM, signal.SIGCHLD)


def keep(parent: int, grace: float, argv: list[str]) -> int:
    """Run a program until it ends, and all that it has started.

    :param parent: the process without which there is no need for any of this.
    :param grace: seconds between TERM and KILL.
    :return: how it ended, as ``os.waitpid`` has it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    if os.getppid() != parent:  # it died before the kernel knew whom to tell
        os._exit(1)
    program = os.fork()
    if program == 0:
        _become(argv)
    status = _wait(program, grace)
    _end_all()
    return status


def _become(argv: list[str]) -> None:
    """Be the program; a keeper that is killed takes it along."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python's own way with them
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        os.execvpe(argv[0], argv, _given())
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(_NOT_FOUND)


def _given() -> dict[bytes, bytes]:
    """The environment as it was: Python puts a locale into it."""
    with open("/proc/self/environ", "rb") as file:
        entries = (entry.partition(b"=") for entry in file.read().split(b"\0") if entry)
        return {name: value for name, _, value in entries}


def _wait(program: int, grace: float) -> int:
    """Wait until a program ends, and end it on TERM."""
    deadline: float | None = None
    while True:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                return ended[1]
        if deadline is None:
            number = signal.sigwait(_AWAITED)
        else:
            found = signal.sigtimedwait(_AWAITED, max(0.0, deadline - time.monotonic()))
            number = found.si_signo if found is not None else signal.SIGKILL
        if number == signal.SIGTERM and deadline is None:
            deadline = time.monotonic() + grace
            # Its own TERM among them waits for ever: one is enough.
            os.killpg(0, signal.SIGTERM)
        if deadline is not None and time.monotonic() >= deadline:
            for pid in _descendants():
                _kill(pid)


def _end_all() -> None:
    """Kill all descendants: with each that goes, its children become the keeper's."""
    while True:
        for pid in _descendants():
            _kill(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants() -> list[int]:
    """All processes that come from this one, children before theirs."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The name of a program may hold whatever it likes, parentheses too.
                state, ppid = stat.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(ppid), []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _end_as(status: int) -> None:
    """End as another process did."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    _end_as(keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
