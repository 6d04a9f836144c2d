"""The history of builds: kept, followed, found again."""

import json
import time
import tracemalloc
from itertools import islice
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from nixery.history.event_buffer import BufferBounds
from nixery.history.history import History
from nixery.history.subscription import Subscription
from nixery.history.summary import LONGEST_ERROR, BuildHead
from nixery.model.events import Asked, BuildStarted, BuildStopped, LogLine, PhaseStarted
from nixery.model.limits import HistoryLimits
from tests.history.histories import (
    SMALL,
    Listener,
    begin,
    details,
    follow,
    moment,
    open_history,
    print_lines,
    reactor,
    read,
)


@pytest_twisted.ensureDeferred
async def test_from_the_first_event_to_the_last(tmp_path: Path) -> None:
    """Who follows a build from its beginning is told each event once, in order, and the end."""
    history = await open_history(tmp_path)
    record = begin(history)
    listening = Listener(await follow(history, record.id)).start()
    for start in range(0, 300, 100):
        print_lines(record, 100, start)
        await moment()
    record.done("sha256:x")
    listener = await listening
    assert listener.ids == list(range(1, 302))
    assert listener.lines == [f"line {number}" for number in range(300)]
    assert listener.events[-1]["type"] == "done"
    assert listener.events[-1]["digest"] == "sha256:x"
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_joining_at_any_time(tmp_path: Path) -> None:
    """Whenever one begins to follow, and from whichever event, nothing is missed or told twice."""
    history = await open_history(tmp_path)
    record = begin(history)
    listening = []
    for start in range(0, 1000, 100):
        print_lines(record, 100, start)
        for after in (0, start // 2, start + 50, start + 100):
            listening.append((after, Listener(await follow(history, record.id, after)).start()))
        await moment(0.005)
    record.done("sha256:x")
    for after, each in listening:
        assert (await each).ids == list(range(after + 1, 1002))
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_a_slow_listener(tmp_path: Path) -> None:
    """A listener that is far behind holds up nobody, keeps nothing in memory, and misses nothing:
    it is told from the disk."""
    history = await open_history(tmp_path)
    record = begin(history)
    slow, fast = [Listener(await follow(history, record.id)) for _ in range(2)]
    fast_done = fast.start()
    for start in range(0, 20_000, 1000):
        print_lines(record, 1000, start)
        await moment()
        if start == 0:
            block = await slow.subscription.next()
            assert block is not None
            slow.blocks.append(block)
    record.done("sha256:x")
    assert len((await fast_done).ids) == 20_001
    await history.stop()
    assert len(slow.ids) < 20_001
    assert (await slow.listen()).ids == fast.ids


@pytest_twisted.ensureDeferred
async def test_memory_is_bounded(tmp_path: Path) -> None:
    """However much a build prints, what is on disk leaves memory."""
    history = await open_history(tmp_path)
    record = begin(history)
    tail = record.source.buffer
    for start in range(0, 50_000, 1000):
        print_lines(record, 1000, start)
        await moment(0.001)
    record.emit(LogLine("x-1", "the last line"))
    record.done("sha256:x")
    await history.stop()
    assert tail.first == tail.published + 1
    assert (await read(history, record.id)).lines[-1] == "the last line"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "bounds", [BufferBounds(events=50, delay=0.001), BufferBounds(bytes=4096, delay=0.001)]
)
async def test_memory_is_bounded_while_it_runs(tmp_path: Path, bounds: BufferBounds) -> None:
    """Both the number and the bytes of events in memory have their bound."""
    history = await open_history(tmp_path, attrs.evolve(bounds, block=256))
    record = begin(history)
    tail = record.source.buffer
    print_lines(record, 20_000)
    while tail.published - tail.first > 100:
        print_lines(record, 1)
        await moment()
    record.done("sha256:x")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_restart_keeps_what_has_ended(tmp_path: Path) -> None:
    """After a restart, the builds that had ended are listed as they were, with all events."""
    history = await open_history(tmp_path)
    good, bad = begin(history, "good"), begin(history, "bad")
    good.emit(BuildStarted("x-1"))
    good.emit(PhaseStarted("x-1", "buildPhase"))
    print_lines(good, 5000)
    good.emit(BuildStopped("x-1"))
    good.done("sha256:x")
    bad.emit(BuildStarted("y-1"))
    bad.failed("y-1 failed to build: no", "y-1")
    await history.stop()
    ids, summary = (await read(history, good.id)).ids, await details(history, good.id)
    again = await open_history(tmp_path)
    assert list(again.heads()) == list(history.heads())
    assert [(head.name, head.state) for head in list(again.heads())] == [
        ("bad", "failed"),
        ("good", "done"),
    ]
    assert (await read(again, good.id)).ids == ids
    assert await details(again, good.id) == summary
    assert (await details(again, bad.id))["derivations"][0]["state"] == "failed"
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_build_that_nobody_ended(tmp_path: Path) -> None:
    """A build that ran when the daemon died has failed after the restart, and says so; its events
    are there, and its end is news to whoever was told anything of it."""
    history = await open_history(tmp_path)
    record = begin(history)
    record.emit(BuildStarted("x-1"))
    print_lines(record, 5000)
    while record.source.file.last < 5001:
        await moment()
    history.leave()  # as the kernel does when a process dies
    again = await open_history(tmp_path)
    head = again.head(record.id)
    assert head is not None
    assert (head.state, head.complete) == ("failed", False)
    assert "interrupted" in (head.error or "")
    listener = await read(again, record.id)
    assert len(listener.lines) == 5000
    assert [event["type"] for event in listener.events[-2:]] == ["skipped", "failed"]
    assert listener.events[-2]["count"] is None
    for after in (5001, 5002, 9000):
        assert (await read(again, record.id, after)).events[-1]["type"] == "failed"
    assert (await read(again, record.id, listener.ids[-1])).events == []
    assert (await details(again, record.id))["derivations"][0]["state"] == "stopped"
    again.leave()
    third = await open_history(tmp_path)
    assert list(third.heads()) == list(again.heads())
    record.done("sha256:x")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_two_daemons_at_one_folder(tmp_path: Path) -> None:
    """A daemon that starts while another is at the folder leaves the other's builds alone, and
    has a history of its own."""
    history = await open_history(tmp_path)
    record = begin(history)
    print_lines(record, 100)
    other = await open_history(tmp_path)
    assert list(other.heads()) == []
    own = begin(other)
    own.done("sha256:x")
    await other.stop()
    assert (await read(other, own.id)).ids == [1]
    print_lines(record, 100, 100)
    record.done("sha256:x")
    await history.stop()
    assert len((await read(history, record.id)).lines) == 200
    assert len(list((await open_history(tmp_path)).heads())) == 2


@pytest_twisted.ensureDeferred
async def test_taking_over(tmp_path: Path) -> None:
    """When the daemon that has the folder ends, another one shows its builds besides its own, of
    which none is taken for interrupted, and those that it has from then on."""
    history = await open_history(tmp_path)
    old = begin(history)
    old.done("sha256:x")
    other = await open_history(tmp_path)
    assert history.alone
    assert not other.alone
    ended, running = begin(other), begin(other)
    ended.done("sha256:x")
    await history.stop()
    while not other.alone:
        await moment()
    await other.loaded()
    heads = {head.id: head.state for head in list(other.heads())}
    assert heads == {old.id: "done", ended.id: "done", running.id: "running"}
    running.done("sha256:x")
    await other.stop()
    again = await open_history(tmp_path)
    assert {head.id: head.state for head in list(again.heads())} == dict.fromkeys(heads, "done")
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_much_history(tmp_path: Path) -> None:
    """A start waits for no reading: builds can begin at once, and what is read meanwhile is told
    besides, the latest first; one that stops does not wait for the rest."""
    history = await open_history(tmp_path)
    records = [begin(history) for _ in range(250)]
    for record in records:
        record.done("sha256:x")
    await history.stop()
    # So many at once have the IDs of the next milliseconds.
    while time.time() * 1000 < int(records[-1].id[:12], 16) + 1:
        await moment()
    again = History(reactor, str(tmp_path / "history"))
    await again.start()
    first = list(again.heads())
    own = begin(again)
    assert first == list(history.heads())[: len(first)]
    await again.loaded()
    assert [head.id for head in list(again.heads())] == [own.id, *(r.id for r in reversed(records))]
    own.done("sha256:x")
    await again.stop()
    third = History(reactor, str(tmp_path / "history"))
    await third.start()
    await third.stop()
    assert list(third.heads()) == list(again.heads())[: len(list(third.heads()))]


@pytest_twisted.ensureDeferred
async def test_ids(tmp_path: Path) -> None:
    """IDs are fit for URLs, greater for later builds, and nobody else's, restart or not."""
    history = await open_history(tmp_path)
    ids = [begin(history).id for _ in range(200)]
    assert ids == sorted(set(ids))
    assert all(id.isalnum() and id.isascii() for id in ids)
    assert [head.id for head in list(history.heads())] == ids[::-1]
    assert [head.id for head in list(history.heads(before=ids[100]))] == ids[:100][::-1]


@pytest_twisted.ensureDeferred
async def test_a_page_of_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds are looked up as they are asked for; those that run are known without the others, and
    the last good build of an image is found, on disk or not."""
    history = await open_history(tmp_path)
    for number in range(20):
        begin(history, f"image-{number % 10}").done(f"sha256:{number}")
    await history.stop()
    begin(history, "image-9").failed("no")
    running = begin(history, "image-8")
    looked: list[str] = []
    head = History.head

    def look(self: History, id: str) -> BuildHead | None:
        looked.append(id)
        return head(self, id)

    monkeypatch.setattr(History, "head", look)
    page = list(islice(history.heads(), 4))
    assert [each.name for each in page] == ["image-8", "image-9", "image-9", "image-8"]
    assert looked == [each.id for each in page]
    assert [each.id for each in history.running()] == [running.id]
    for name, digest in (("image-9", "sha256:19"), ("image-3", "sha256:13")):
        latest = history.latest(name, "latest")
        assert latest is not None
        assert latest.digest == digest
    running.done("sha256:x")
    assert history.latest("image-8", "latest") == history.head(running.id)
    assert history.running() == []
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_not_known(tmp_path: Path) -> None:
    """A build that is not known can't be followed, whatever its name looks like."""
    history = await open_history(tmp_path)
    for id in ("", "x", "../history", "0" * 16):
        assert history.head(id) is None
        assert await history.follow(id, 0) is None


@pytest_twisted.ensureDeferred
async def test_leaving(tmp_path: Path) -> None:
    """A listener that leaves while it waits is forgotten, and may come again."""
    history = await open_history(tmp_path)
    record = begin(history)
    subscription = await follow(history, record.id)
    waiting = Deferred.fromCoroutine(subscription.next())
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    print_lines(record, 1)
    record.done("sha256:x")
    assert (await Listener(subscription).listen()).ids == [1, 2]
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_after_the_end(tmp_path: Path) -> None:
    """What is told after a build's end changes nothing."""
    history = await open_history(tmp_path)
    record = begin(history)
    record.failed("no")
    print_lines(record, 1)
    await history.stop()
    assert [event["type"] for event in (await read(history, record.id)).events] == ["failed"]


@pytest_twisted.ensureDeferred
async def test_who_waits(tmp_path: Path) -> None:
    """It is told when more clients wait for a build than ever before, and how many do now."""
    history = await open_history(tmp_path)
    record = begin(history)
    record.waiting = lambda: 2
    for waiting in (1, 2, 1, 2, 3):
        record.asked(waiting)
    assert history.waiting(record.id) == 2
    record.done("sha256:x")
    assert history.waiting(record.id) == 0
    await history.stop()
    asked = [event for event in (await read(history, record.id)).events if event["type"] == "asked"]
    assert [event["waiting"] for event in asked] == [1, 2, 3]
    assert Asked(3).waiting == 3


@pytest_twisted.ensureDeferred
async def test_the_oldest_are_removed(tmp_path: Path) -> None:
    """When all files together are too large, the oldest builds go, and never one that runs."""
    history = await open_history(tmp_path, limits=HistoryLimits(bytes=20_000))
    running = begin(history)
    print_lines(running, 200)
    ids = []
    for _ in range(30):
        record = begin(history)
        print_lines(record, 500)
        record.done("sha256:x")
        await history.stop()
        ids.append(record.id)
    assert running.id in {head.id for head in list(history.heads())}
    left = [head.id for head in list(history.heads()) if head.id != running.id]
    assert 1 < len(left) < 30
    assert left == ids[: -len(left) - 1 : -1]
    files = {path.name.partition(".")[0] for path in (tmp_path / "history").iterdir()}
    assert files == {*left, running.id}
    assert await history.follow(ids[0], 0) is None
    running.done("sha256:x")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_the_old_are_removed(tmp_path: Path) -> None:
    """Builds that ended too long ago are gone after a restart."""
    history = await open_history(tmp_path)
    begin(history).done("sha256:x")
    await history.stop()
    again = await open_history(tmp_path)
    assert len(list(again.heads())) == 1
    await again.stop()
    assert list((await open_history(tmp_path, limits=HistoryLimits(seconds=0))).heads()) == []
    assert list((tmp_path / "history").iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_removed_build_that_is_followed(tmp_path: Path) -> None:
    """Who follows a build whose files are removed is told how much is lost, and the end."""
    history = await open_history(tmp_path)
    record = begin(history)
    print_lines(record, 5000)
    record.done("sha256:x")
    await history.stop()
    subscription = await follow(history, record.id)
    block = await subscription.next()
    assert block is not None
    for path in (tmp_path / "history").iterdir():
        path.unlink()
    (told,) = (await Listener(subscription).listen()).events
    assert (told["type"], told["count"], told["id"]) == ("skipped", 5001 - block.last, 5001)


HEADS = st.builds(
    BuildHead,
    **dict.fromkeys(("id", "key", "name", "tag"), st.text()),
    started=st.floats(),
    state=st.sampled_from(["running", "done", "failed"]),
    events=st.integers(),
)


@given(HEADS)
def test_heads_are_read_as_they_were_written(head: BuildHead) -> None:
    """The line of a build survives its file."""
    assert repr(BuildHead.parse(attrs.asdict(head))) == repr(head)


@given(st.none() | st.lists(st.integers()) | st.dictionaries(st.text(), st.integers()))
def test_nonsense_is_no_head(document: object) -> None:
    """What is no build's line is refused."""
    with pytest.raises(ValueError, match="head"):
        BuildHead.parse(document)


BURSTS = st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=8)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20
)
@given(BURSTS)
@pytest_twisted.ensureDeferred
async def test_any_rhythm(tmp_path: Path, bursts: list[tuple[int, float]]) -> None:
    """However events and listeners come, each listener is told all, once, in order."""
    history = await open_history(tmp_path, attrs.evolve(SMALL, delay=0.001))
    record, last = begin(history), 0
    listening = []
    for burst, share in bursts:
        print_lines(record, burst, last)
        last += burst
        after = int(last * share)
        subscription = await follow(history, record.id, after)
        listening.append((after, Listener(subscription, pause=0.001 * (after % 3)).start()))
        await moment(0.002)
    record.done("sha256:x")
    for after, listener in listening:
        assert (await listener).ids == list(range(after + 1, last + 2))
    await history.stop()
    assert (await read(history, record.id)).ids == list(range(1, last + 2))


@pytest_twisted.ensureDeferred
async def test_many_lines_at_once(tmp_path: Path) -> None:
    """300,000 lines that come faster than any disk or listener takes them are all told to
    twenty listeners, and are all on disk."""
    history = await open_history(tmp_path, BufferBounds())
    record = begin(history)
    listeners = [Listener(await follow(history, record.id)).start() for _ in range(20)]
    for start in range(0, 300_000, 2000):
        print_lines(record, 2000, start)
        await moment(0)
    record.done("sha256:x")
    for listener in await gatherResults(listeners):
        assert sum(block.data.count(b"\n") for block in listener.blocks) == 300_001
        assert listener.blocks[-1].last == 300_001
    await history.stop()
    head = history.head(record.id)
    assert head is not None
    assert head.complete
    assert len((await read(history, record.id)).lines) == 300_000


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("length", [3000, 10_000_000])
async def test_much_text(tmp_path: Path, length: int) -> None:
    """A hundred megabytes of log cost a fraction of that in memory, in however long lines they
    come, and however many listen."""
    history = await open_history(tmp_path, BufferBounds())
    record = begin(history)
    count = 100_000_000 // length
    listeners = [await follow(history, record.id) for _ in range(3)]
    sizes = [Deferred.fromCoroutine(_size(listener)) for listener in listeners]
    tracemalloc.start()
    for number in range(count):
        record.emit(LogLine("x-1", f"{number} " + "x" * length))
        while record.source.buffer.published > record.source.file.last + 2000:
            await moment(0.002)
    record.done("sha256:x")
    for size in sizes:
        assert await size == count + 1
    await history.stop()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000
    assert next(history.heads()).complete


async def _size(subscription: Subscription) -> int:
    """How many events there are."""
    count = 0
    while (block := await subscription.next()) is not None:
        count += block.data.count(b"\n")
    return count


@pytest_twisted.ensureDeferred
async def test_parts_of_blocks(tmp_path: Path) -> None:
    """A listener that has room for little gets every event once, in parts no larger than that but
    of one event at least; all listeners of a build that has ended share what is known of it."""
    history = await open_history(tmp_path)
    record = begin(history)
    print_lines(record, 300)
    record.done("sha256:x")
    await record.saved()
    await moment()
    for most in (1, 150, 100_000):
        subscription, ids = await follow(history, record.id), []
        while (block := await subscription.next(most)) is not None:
            events = [json.loads(line) for line in block.data.splitlines()]
            assert len(block.data) <= most or len(events) == 1
            assert [block.first, block.last] == [events[0]["id"], events[-1]["id"]]
            ids += [event["id"] for event in events]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) > 300
    first, second = await follow(history, record.id), await follow(history, record.id)
    assert first._source is second._source


@pytest_twisted.ensureDeferred
async def test_long_errors(tmp_path: Path) -> None:
    """Of a long error, lists and memory have the beginning; all of it is on disk."""
    history, error = await open_history(tmp_path), "no " * 1000
    record = begin(history)
    record.failed(error)
    await history.stop()
    again = await open_history(tmp_path)
    for known in (history, again):
        head = known.head(record.id)
        assert head is not None
        assert head.error is not None
        assert len(head.error) == LONGEST_ERROR
        assert error.startswith(head.error[:-1])
        assert (await known.in_full(head))[0].error == error
