#!/bin/sh
# Twisted 26.10.0, Python 3.11: spawnProcess() blocks the reactor for longer, the more files are open.
# Since it uses posix_spawn(), the parent looks at each of its descriptors (fcntl) before it starts a
# child; after fork() the child closed them. A server with thousands of connections stands still for
# tens of milliseconds whenever it starts a process.
#
# Prints the time of a start with few and with 8,000 open files. Ends with 1 if the latter takes less
# than four times as long.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0
"$folder/venv/bin/python" - <<'PYTHON'
import os
import resource
import statistics
import sys
import time

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.protocol import ProcessProtocol

FILES = 8000


class Ended(ProcessProtocol):
    def __init__(self):
        self.done = Deferred()

    def processEnded(self, reason):
        self.done.callback(None)


async def start():
    times = []
    for _ in range(10):
        ended = Ended()
        began = time.perf_counter()
        reactor.spawnProcess(ended, "/bin/true", ["true"], env={})
        times.append(1000 * (time.perf_counter() - began))
        await ended.done
    return statistics.median(times)


async def main(reactor):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES + 500), hard))
    few = await start()
    for _ in range(FILES):
        os.dup(0)
    many = await start()
    print(f"spawnProcess: {few:.1f} ms with few open files, {many:.1f} ms with {FILES}")
    if many < 4 * few:
        sys.exit("changed: open files cost little")


task.react(lambda reactor: ensureDeferred(main(reactor)))
PYTHON
