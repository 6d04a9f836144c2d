"""History on disks that are full, broken, or hold what a crash left."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixery.history.blocks import Block, BlockFile
from nixery.history.event_buffer import BufferBounds
from nixery.history.folder import HistoryFolder
from nixery.history.history import History
from nixery.history.record import Record
from nixery.model.event_json import line
from nixery.model.events import LogLine
from nixery.model.limits import HistoryLimits
from tests.history.histories import (
    Listener,
    begin,
    details,
    follow,
    moment,
    open_history,
    print_lines,
    read,
)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let writes behind a size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def settled(history: History, record: Record) -> None:
    """Wait until all of a build is on disk, or lost."""
    while record.source.buffer.first < record.source.buffer.published - 100:
        await moment()


@pytest_twisted.ensureDeferred
async def test_a_full_disk(tmp_path: Path) -> None:
    """When the disk is full the build goes on; what is lost is told to be, and its number; what
    comes when there is room again is kept; the build's line says that its log is not complete."""
    history = await open_history(tmp_path)
    record = begin(history)
    fast = Listener(await follow(history, record.id)).start()
    print_lines(record, 10_000)
    await settled(history, record)
    with no_file_larger_than(os.path.getsize(record.source.file.path) + 1000):
        print_lines(record, 40_000, 10_000)
        await settled(history, record)
    assert record.head.state == "running"
    assert not record.head.complete
    print_lines(record, 10_000, 50_000)
    record.done("sha256:x")
    await history.stop()
    assert len((await fast).lines) <= 60_000
    late = await read(history, record.id)
    (skipped,) = [event for event in late.events if event["type"] == "skipped"]
    assert 39_000 < skipped["count"] < 42_000
    assert late.lines[:9000] == [f"line {number}" for number in range(9000)]
    assert late.lines[-1] == "line 59999"
    assert len(late.lines) + skipped["count"] == 60_000
    again = await open_history(tmp_path)
    assert not next(again.heads()).complete
    assert "large" in (await details(again, record.id))["fault"]
    assert (await read(again, record.id)).ids == late.ids
    await again.stop()


def unwritable(folder: Path) -> None:
    """Let the folder of histories be a file."""
    folder.rmdir()
    folder.touch()


def gone(folder: Path) -> None:
    """Let the folder of histories be gone."""
    folder.rmdir()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("damage", [unwritable, gone])
async def test_no_place_to_write(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Without a folder the build goes on, those who listen are told all, and its last events
    are there for those who come late."""
    history = await open_history(tmp_path)
    damage(tmp_path / "history")
    record = begin(history)
    listening = Listener(await follow(history, record.id)).start()
    for start in range(0, 1000, 100):
        print_lines(record, 100, start)
        await moment()
    record.done("sha256:x")
    assert (await listening).ids == list(range(1, 1002))
    await history.stop()
    head = history.head(record.id)
    assert head is not None
    assert (head.state, head.complete) == ("done", False)
    late = await read(history, record.id)
    assert late.events[0]["type"] == "skipped"
    assert late.events[-1]["type"] == "done"
    assert late.ids == list(range(late.ids[0], 1002))


@pytest_twisted.ensureDeferred
async def test_what_is_on_disk_of_builds_that_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds whose end could not be noted are forgotten after a while, with what is on disk."""
    history = await open_history(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HistoryFolder, "save", full)
    for number in range(30):
        record = begin(history, f"image-{number}")
        print_lines(record, 10)
        record.done("sha256:x")
        await history.stop()
    known = {head.id for head in list(history.heads())}
    assert {path.name.partition(".")[0] for path in (tmp_path / "history").iterdir()} == known
    assert len(known) <= 21


@pytest_twisted.ensureDeferred
async def test_a_place_that_never_was(tmp_path: Path) -> None:
    """A folder that can't be made keeps no daemon from starting."""
    (tmp_path / "history").touch()
    history = await open_history(tmp_path)
    for number in range(50):
        begin(history, f"image-{number}").done("sha256:x")
        await history.stop()
    heads = list(history.heads())
    assert heads[0].name == "image-49"
    assert len(heads) <= 21
    assert len((await read(history, heads[0].id)).events) == 1


@pytest_twisted.ensureDeferred
async def test_a_build_that_prints_too_much(tmp_path: Path) -> None:
    """No build takes all the room of history: its log ends early, and the build's end is there."""
    history = await open_history(tmp_path, limits=HistoryLimits(bytes=40_000))
    record = begin(history)
    for start in range(0, 60_000, 2000):
        for number in range(start, start + 2000):
            record.emit(LogLine("x-1", f"{number * 7919 % 65521} {number * 104729 % 99991}"))
        await moment()
    record.done("sha256:x")
    await history.stop()
    assert os.path.getsize(record.source.file.path) < 60_000
    events = (await read(history, record.id)).events
    assert [event["type"] for event in events if event["type"] != "log-line"] == [
        "skipped",
        "done",
    ]


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs(tmp_path: Path) -> None:
    """While the disk takes nothing, not even an error comes of it, listeners are told all, memory
    is bounded, and the log is not complete."""
    history = await open_history(tmp_path, BufferBounds(most=4_000_000))
    record = begin(history)
    os.mkfifo(record.source.file.path)  # opening it waits until somebody reads it
    listening = Listener(await follow(history, record.id)).start()
    for start in range(0, 20_000, 100):
        for number in range(start, start + 100):
            record.emit(LogLine("x-1", f"{number} " + "x" * 800))
        await moment(0)
    tail = record.source.buffer
    assert (tail.published - tail.first) * 800 < 5_000_000
    record.done("sha256:x")
    assert (await listening).ids == list(range(1, 20_002))
    late = Listener(await follow(history, record.id)).start()
    reader = os.open(record.source.file.path, os.O_RDONLY | os.O_NONBLOCK)
    await history.stop()
    os.close(reader)
    assert not record.head.complete
    told = await late
    assert told.events[0]["type"] == "skipped"
    assert told.ids == list(range(told.ids[0], 20_002))


def cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def cut_head(content: bytes) -> bytes:
    return content[:10]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def fill(content: bytes) -> bytes:
    """Zeros in the middle, as some file systems leave them after a power cut."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


def add(content: bytes) -> bytes:
    return content + b"(\xb5/\xfd nonsense" * 100


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("damage", [cut, cut_head, flip, fill, add, lambda content: b""])
@pytest.mark.parametrize("ended", [True, False])
async def test_what_a_crash_leaves(
    tmp_path: Path, damage: Callable[[bytes], bytes], ended: bool
) -> None:
    """Of a file that was cut or altered, what is whole is told, in order, once, and that some is
    lost; the daemon starts, and the build is listed."""
    history = await open_history(tmp_path)
    record = begin(history)
    for start in range(0, 20_000, 2000):
        print_lines(record, 2000, start)
        await moment(0.001)
    record.emit(LogLine("x-1", "last"))
    while record.source.file.last < 20_001:
        await moment()
    if ended:
        record.done("sha256:x")
        await history.stop()
    path = Path(record.source.file.path)
    path.write_bytes(damage(path.read_bytes()))
    history.leave()
    again = await open_history(tmp_path)
    (head,) = list(again.heads())
    assert head.state == ("done" if ended else "failed")
    listener = await read(again, record.id)
    assert listener.ids == sorted(set(listener.ids))
    assert listener.ids[-1] == head.events
    assert all(text == f"line {number - 1}" for number, text in numbered(listener))
    assert damage is add or "skipped" in {event["type"] for event in listener.events}
    for told in (1, 5_000, 10_000, 15_000):
        after = await read(again, record.id, told)
        assert after.ids == [number for number in listener.ids if number > told]
    await again.stop()
    if not ended:
        record.done("sha256:x")
        await history.stop()


def told(path: Path, after: int = 0) -> list[tuple[int, str]]:
    """Number and type of each event that a file has behind one."""
    file, found = BlockFile(str(path)), []
    file.scan()
    while (block := file.read(after)) is not None:
        events = [json.loads(each) for each in block.data.splitlines()]
        found += [(event["id"], event["type"]) for event in events]
        after = block.last
    return found


def test_damaged_headers(tmp_path: Path) -> None:
    """Whichever byte of a block's header is altered, the other blocks are told, each event once,
    and that some are lost."""
    path, size, header = tmp_path / "file", 300, 28
    file = BlockFile(str(path))
    starts = []
    for first in (1, 1 + size, 1 + 2 * size):
        starts.append(file.size)
        lines = (line(number, 1.0, LogLine("x", "")) for number in range(first, first + size))
        file.append(Block(first, first + size - 1, b"".join(lines)))
    whole = path.read_bytes()
    others = {*range(1, 1 + size), *range(1 + 2 * size, 1 + 3 * size)}
    for place in range(starts[1], starts[1] + header):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        found = told(path)
        assert [number for number, _ in found] == sorted({number for number, _ in found})
        assert others <= {number for number, kind in found if kind == "log-line"}
        assert "skipped" in {kind for _, kind in found}
        for after in (1, size + 50, 2 * size + 50):
            resumed = [number for number, _ in told(path, after)]
            assert resumed == [number for number, _ in found if number > after]


def numbered(listener: Listener) -> list[tuple[int, str]]:
    events = [event for event in listener.events if event["type"] == "log-line"]
    return [(event["id"], event["line"]) for event in events if event["line"] != "last"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"head": {"id": 1}}', b"\xff"])
async def test_lines_of_builds_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """A build whose line was cut or altered is no build, and keeps none of the others away: its
    files are removed, and no file of another form."""
    history = await open_history(tmp_path)
    kept, lost = begin(history), begin(history)
    for record in (kept, lost):
        record.done("sha256:x")
    await history.stop()
    (tmp_path / "history" / f"{lost.id}.json").write_bytes(content)
    foreign = {"notes.txt", "report.json", "0123456789abcdef.txt", "x.events.zst"}
    for name in foreign:
        (tmp_path / "history" / name).touch()
    (tmp_path / "history" / f"{kept.id}.json.new").touch()
    again = await open_history(tmp_path)
    assert [head.id for head in list(again.heads())] == [kept.id]
    left = {path.name for path in (tmp_path / "history").iterdir()}
    assert left == foreign | {f"{kept.id}.json", f"{kept.id}.events.zst"}


KILLED = """
import os, sys
from pathlib import Path
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from tests.history.histories import begin, moment, open_history, print_lines

async def run():
    history = await open_history(Path(sys.argv[1]))
    done = begin(history, "done")
    print_lines(done, 1000)
    done.done("sha256:x")
    await history.stop()
    running = begin(history, "running")
    for start in range(0, 10_000, 1000):
        print_lines(running, 1000, start)
        await moment(0.01)
    while running.source.file.last < 10_000:
        await moment()
    print_lines(running, 1000, 10_000)
    os.kill(os.getpid(), 9)

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addErrback(print))
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_is_killed(tmp_path: Path) -> None:
    """A killed daemon's finished build is whole after the restart, and of the running one all
    that was on disk."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ)
    assert killed.returncode == -9
    history = await open_history(tmp_path)
    running, done = list(history.heads())
    assert (done.name, done.state, done.complete) == ("done", "done", True)
    assert (await read(history, done.id)).ids == list(range(1, 1002))
    assert (running.name, running.state) == ("running", "failed")
    lines = (await read(history, running.id)).lines
    assert len(lines) >= 10_000
    assert lines == [f"line {number}" for number in range(len(lines))]


@pytest.mark.program
def test_files_are_read_by_others(tmp_path: Path) -> None:
    """``zstd -dc`` prints the events of a file, a line each."""
    file = BlockFile(str(tmp_path / "x.zst"))
    lines = [line(number, 0, LogLine("x", str(number))) for number in range(1, 301)]
    for start in range(0, 300, 100):
        file.append(Block(start + 1, start + 100, b"".join(lines[start : start + 100])))
    printed = subprocess.run(["zstd", "-dc", file.path], check=True, capture_output=True).stdout
    assert printed == b"".join(lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=600), st.integers(0, 400), st.booleans())
def test_any_bytes_in_a_file(tmp_path: Path, noise: bytes, offset: int, cut: bool) -> None:
    """Whatever bytes stand in a file, reading it ends, and tells numbers that only grow."""
    file = BlockFile(str(tmp_path / "x.zst"))
    for number in range(1, 6):
        file.append(Block(number, number, line(number, 0, LogLine("x", "y" * number))))
    path = Path(file.path)
    content = path.read_bytes()
    path.write_bytes(content[:offset] + noise + (b"" if cut else content[offset + len(noise) :]))
    altered = BlockFile(file.path)
    altered.scan()
    after = 0
    while (block := altered.read(after)) is not None:
        assert block.last > after
        after = block.last
    path.unlink()
