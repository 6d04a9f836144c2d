#!/bin/sh
# A TimerService ends at the first call that fails, and goes on saying that it runs.
#
# twisted.application.internet.TimerService logs the failure and calls no more; ``running`` stays
# true, and its parent is not told. Its stopService() waits for a call that is running, as is
# documented: one whose Deferred never fires, such as that of a thread on a hanging disk, keeps the
# whole application from stopping. MultiService starts a child without waiting for the Deferred that
# the start of the child before it has returned.
#
# Seen with Twisted 26.10.0 on Python 3.11. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from twisted.application.internet import TimerService
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

print(f"Twisted {version('twisted')}")
calls = []


def fails_once():
    calls.append(1)
    if len(calls) == 1:
        raise OSError("once")


clock = Clock()
timer = TimerService(10, fails_once)
timer.clock = clock
timer.startService()
clock.pump([10] * 5)
print(f"a call failed, and 50 s have passed: {len(calls)} call, running: {bool(timer.running)}")
if len(calls) != 1 or not timer.running:
    sys.exit("changed: it goes on, or says that it has ended")

timer = TimerService(10, Deferred)
timer.clock = clock
timer.startService()
stopping = timer.stopService()
clock.pump([10] * 5)
print(f"stopped during a call that never ends: stopService() has fired: {stopping.called}")
if stopping.called:
    sys.exit("changed: the call is not waited for")


class Slow(Service):
    """A service whose start takes longer."""

    def startService(self):
        super().startService()
        return Deferred()


both, second = MultiService(), Service()
Slow().setServiceParent(both)
second.setServiceParent(both)
both.startService()
print(f"the first child is still starting: the second runs: {bool(second.running)}")
if not second.running:
    sys.exit("changed: the start of a child is waited for")
PYTHON
