"""The child process that packs: ``python -m nixery.packing.worker [REPORTS]``.

It reads one JSON job a line from its standard input and answers each by one JSON line::

    {"id": 1, "sink": "/file", "compression": "fast",
     "paths": [[logical, physical], …], "entries": [[name, kind, …], …]}

    {"id": 1, "digest": "sha256:…", "diff_id": "sha256:…", "size": 12, "uncompressed": 34,
     "replaced": 0}
    {"id": 2, "error": {"kind": "unsupported", "path": "/etc/x", "message": "…"}}

The sink is made if it is not there, and written from its start to its end without seeking, so it
may be a named pipe. It is not synced. After an error it holds something worthless.

What compression makes wrong goes to the folder ``REPORTS``, with what is right.

When its standard input ends, the process ends, in the midst of a job too: nobody is left to
take the answer. It imports little, since many of it stay in memory.
"""

import contextlib
import errno
import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from nixery.packing import tar
from nixery.packing.codecs import Codec, codec
from nixery.packing.compress import Compressor, Packed, threads_here
from nixery.packing.exceptions import PackError
from nixery.packing.reports import keep_report
from nixery.packing.tar import Entry

_FULL = (errno.ENOSPC, errno.EDQUOT)


def answer(
    job: dict[str, Any],
    threads: int,
    reports: str | None = None,
    find_codec: Callable[[str], Codec] = codec,
) -> dict[str, Any]:
    """Do a job and say how it went.

    :param threads: how many blocks to compress at once.
    :param reports: a folder for what compression makes wrong.
    :param find_codec: gives what compresses, by its name.
    """
    try:
        packed = pack(job, threads, reports, find_codec(job["compression"]))
        return {"id": job["id"], **packed._asdict()}
    except PackError as error:
        path = error.path.decode("utf-8", "backslashreplace")
        facts = {"kind": error.kind, "path": path, "message": error.message}
        return {"id": job["id"], "error": facts}


def pack(job: dict[str, Any], threads: int, reports: str | None, codec: Codec) -> Packed:
    """Write the layer that a job asks for to its sink.

    :raises PackError: if the layer can't be made or the sink not be written.
    """
    on_wrong = partial(keep_report, reports)
    with _sink(job["sink"]) as write, Compressor(codec, write, threads, on_wrong) as out:
        tar.pack(job["paths"], map(Entry.from_json, job["entries"]), out)
        return out.finish()


@contextlib.contextmanager
def _sink(path: str) -> Iterator[Callable[[bytes], None]]:
    raw = os.fsencode(path)
    with _writing(raw):
        descriptor = os.open(raw, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        yield _writer(descriptor, raw)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    with _writing(raw):
        os.close(descriptor)


def _writer(descriptor: int, path: bytes) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        rest = memoryview(data)
        with _writing(path):
            while rest:
                rest = rest[os.write(descriptor, rest) :]

    return write


@contextlib.contextmanager
def _writing(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"it can't be written: {os.strerror(error.errno or 0)}"
        raise PackError("storage_full" if error.errno in _FULL else "io", path, reason) from error


def _read(jobs: "queue.SimpleQueue[bytes]") -> None:
    """Hand on the jobs; end the process with its input, without waiting for anything."""
    try:
        for line in sys.stdin.buffer:
            jobs.put(line)
    finally:
        os._exit(0)


def _prepare() -> None:
    """A terminal's ^C is for the parent, no folder is held, and every level of folders takes a
    descriptor."""
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setsid()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Answer jobs for as long as there is someone to send them."""
    _prepare()
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    try:
        _answer_all(jobs, sys.argv[1] if len(sys.argv) > 1 else None)
    except BaseException:
        traceback.print_exc()
        # Not by sys.exit: the thread that waits for jobs would be in the way.
        os._exit(1)


def _answer_all(jobs: "queue.SimpleQueue[bytes]", reports: str | None) -> NoReturn:
    threads = threads_here()
    while True:
        line = json.dumps(answer(json.loads(jobs.get()), threads, reports))
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
