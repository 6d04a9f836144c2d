"""The child process that packs: ``python -m nixery.packing.worker [REPORTS]``.

It reads one JSON job a line from its standard input and answers each by one JSON line::

    {"id": 1, "sink": "/file", "compression": "fast",
     "paths": [[logical, physical], …], "entries": "/file"}

    {"id": 1, "digest": "sha256:…", "diff_id": "sha256:…", "size": 12, "uncompressed": 34,
     "replaced": 0}
    {"id": 2, "error": {"kind": "unsupported", "path": "/etc/x", "message": "…"}}

or, where a root file system is to be made, several lines::

    {"id": 3, "sink": "/file", "furnish": "…"}

    {"id": 3, "collided": [[name, package, package], …]}
    {"id": 3, "key": "…", "tools": ["bash", …], "execution": {…}}

with a pickled :class:`nixery.packing.furnishing.FurnishRequest`; the entries in its sink are the
``entries`` of later jobs.

The sink is created if there is none, and written from start to end without seeking, so it may be a
named pipe. It is not synced. After an error its contents are worthless.

Blocks that were compressed wrongly are kept in the folder ``REPORTS``, wrong and right.

The process ends when its standard input does, even during a job. It imports little before it has
a root file system to make: it is to be there soon when a layer waits.
"""

import contextlib
import errno
import hashlib
import json
import os
import pickle
import queue
import resource
import signal
import sys
import threading
import traceback
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NoReturn

from nixery.packing import tar
from nixery.packing.codecs import Codec, codec
from nixery.packing.compress import Compressed, Compressor, WrongBlock, threads_here
from nixery.packing.tar import Entry
from nixery.packing.tar_stream import PackError

MOST_REPORTS = 16
"""Wrong blocks that are kept: two files each, of the size of a block at most."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def answers(
    job: dict[str, Any],
    threads: int,
    reports: str | None = None,
    find_codec: Callable[[str], Codec] = codec,
) -> Iterator[dict[str, Any]]:
    """Do a job.

    :param threads: the number of blocks to compress at once.
    :param reports: the folder for wrong blocks; None to keep none.
    :param find_codec: gives the codec of a name.
    :return: its answers, the last of which ends it.
    """
    try:
        if "furnish" in job:
            request = pickle.loads(a2b_base64(job["furnish"]))
            with _sink(job["sink"]) as write:
                yield from ({"id": job["id"], **each} for each in request.answers(write))
        else:
            packed = pack(job, threads, reports, find_codec(job["compression"]))
            yield {"id": job["id"], **packed._asdict()}
    except PackError as error:
        path = error.path.decode("utf-8", "backslashreplace")
        facts = {"kind": error.kind, "path": path, "message": error.message}
        yield {"id": job["id"], "error": facts}


def pack(job: dict[str, Any], threads: int, reports: str | None, codec: Codec) -> Compressed:
    """Write a job's layer to its sink.

    :raises PackError: if the layer can't be made, or the sink can't be written.
    """
    on_wrong = partial(keep_report, reports)
    with _sink(job["sink"]) as write, Compressor(codec, write, threads, on_wrong) as out:
        tar.pack(job["paths"], read_entries(job["entries"]), out)
        return out.finish()


def read_entries(path: str | None) -> Iterator[Entry]:
    """The entries in a file, which has them line by line in JSON lists; none without a file."""
    if path is not None:
        with open(path, "rb") as file:
            for line in file:
                yield from map(Entry.from_json, json.loads(line))


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


def keep_report(folder: str | None, wrong: WrongBlock) -> None:
    """Keep both outputs for a block; the block itself follows from the right one.

    It is no error if they can't be written. At most :data:`MOST_REPORTS` are kept.

    :param folder: created if there is none; None to keep nothing.
    """
    if folder is None:
        return
    name = f"{hashlib.sha256(wrong.wrong).hexdigest()[:32]}.{wrong.codec}"
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        if len(os.listdir(folder)) < 2 * MOST_REPORTS:
            for kind, data in (("right", wrong.right), ("wrong", wrong.wrong)):
                with open(os.path.join(folder, f"{name}.{kind}"), "wb") as file:
                    file.write(data)


def _read(jobs: "queue.SimpleQueue[bytes]") -> None:
    """Queue the jobs; end the process at once when its input ends."""
    try:
        for line in sys.stdin.buffer:
            jobs.put(line)
    finally:
        os._exit(0)


def _prepare() -> None:
    """Leave ^C to the parent, hold no folder, and allow a descriptor for each level of folders."""
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setsid()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    """Answer jobs until standard input ends."""
    _prepare()
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    try:
        _answer_all(jobs, sys.argv[1] if len(sys.argv) > 1 else None)
    except BaseException:
        traceback.print_exc()
        # Not by sys.exit, which would wait for the thread that reads jobs.
        os._exit(1)


def _answer_all(jobs: "queue.SimpleQueue[bytes]", reports: str | None) -> NoReturn:
    threads = threads_here()
    if jobs.empty():  # started in advance: time for what the next job needs
        import nixery.packing.furnishing  # noqa: F401
    while True:
        for each in answers(json.loads(jobs.get()), threads, reports):
            sys.stdout.write(json.dumps(each) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
