#!/bin/sh
# twisted.internet.inotify stops telling of changes, and does not say so.
#
# 1. When the kernel's queue of events is full, it drops the rest and adds IN_Q_OVERFLOW, with the
#    watch number -1. INotify looks watch numbers up and passes over those that it does not know: no
#    callback is called, so that whoever follows a folder can't know that something was missed.
# 2. When one of the watched folders is removed, INotify calls loseConnection() on itself: all other
#    watches end as well, and no callback hears of that either.
#
# Seen with Twisted 26.10.0 on Python 3.11, Linux 6.18. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0
mkdir "$folder/one" "$folder/two" "$folder/many"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import sys
from importlib.metadata import version
from pathlib import Path

from twisted.internet import inotify, task
from twisted.internet.defer import ensureDeferred
from twisted.python.filepath import FilePath

top = Path(sys.argv[1])


def follow(told, *names, mask=inotify.IN_WATCH_MASK):
    notifier = inotify.INotify()
    notifier.startReading()
    for name in names:
        callbacks = [lambda _, path, mask: told.append((path.basename(), mask))]
        notifier.watch(FilePath(str(top / name)), mask, callbacks=callbacks)
    return notifier


async def main(reactor):
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    told = []
    notifier = follow(told, "many", mask=inotify.IN_CREATE)
    for number in range(most + 1000):  # while the reactor is busy
        (top / "many" / str(number)).touch()
    for _ in range(100):
        await task.deferLater(reactor, 0.05)
    overflows = sum(bool(mask & inotify.IN_Q_OVERFLOW) for _, mask in told)
    print(f"{most + 1000} files made: {len(told)} events told, {overflows} overflows told")
    notifier.loseConnection()
    if overflows:
        sys.exit("changed: the overflow is told")

    told = []
    follow(told, "one", "two")
    os.rmdir(top / "one")
    await task.deferLater(reactor, 0.5)
    del told[:]
    (top / "two" / "file").touch()
    await task.deferLater(reactor, 0.5)
    print(f"another watched folder was removed, a file made in the other: {len(told)} events told")
    if told:
        sys.exit("changed: the other folder is watched still")


print(f"Twisted {version('twisted')}")
task.react(lambda reactor: ensureDeferred(main(reactor)))
PYTHON
