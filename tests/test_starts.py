"""Starts of processes in a process that has many files open."""

import os
import subprocess
import sys
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from nixery.descriptors import keep_to_ourselves
from nixery.starts import Starts

reactor: Any = _reactor

SCRIPT = """
import os, sys
from collections import Counter
from twisted.internet import reactor
from twisted.internet.protocol import ProcessProtocol
from nixery.starts import Starts
for _ in range(300):
    os.dup(0)
events = Counter()
sys.addaudithook(lambda event, _: events.update([event]))
starts = Starts(reactor)
events.clear()
starts.spawnProcess(ProcessProtocol(), "true", ["true"], env=os.environ)
started = dict(events)
print({name: started.get(name, 0) for name in ("os.posix_spawn", "os.fork", "os.listdir")})
print(sum(started.values()) < 100)
"""


class Printed(ProcessProtocol):
    """Gathers what a child prints."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        self._output += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(self._output)


def test_open_files_are_not_looked_at() -> None:
    """A start neither copies the process nor does anything for each of its open files."""
    command = [sys.executable, "-c", SCRIPT]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ["{'os.posix_spawn': 1, 'os.fork': 0, 'os.listdir': 0}", "True"]


@pytest_twisted.ensureDeferred
async def test_children_have_what_they_are_given() -> None:
    """A child has its three pipes and no other file of this process, whoever opened it."""
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)
    try:
        keep_to_ourselves()
        printed = Printed()
        argv = ["ls", "/proc/self/fd"]
        Starts(reactor).spawnProcess(printed, argv[0], argv, env=os.environ)
        # The last is what the folder is read by.
        assert (await printed.ended).split() == [b"0", b"1", b"2", b"3"]
    finally:
        os.close(inherited)


@pytest_twisted.ensureDeferred
async def test_another_folder() -> None:
    """What can't be had in that way, a start in another folder, works as with Twisted's own."""
    printed = Printed()
    Starts(reactor).spawnProcess(printed, "pwd", ["pwd", "-P"], env=os.environ, path="/proc")
    assert await printed.ended == b"/proc\n"


def test_no_such_program() -> None:
    """What can't be started raises the system's error."""
    with pytest.raises(FileNotFoundError):
        Starts(reactor).spawnProcess(Printed(), "/nonexistent", ["nonexistent"], env={})


def test_interface() -> None:
    """It is what reactors are."""
    assert verifyObject(IReactorProcess, Starts(reactor))
