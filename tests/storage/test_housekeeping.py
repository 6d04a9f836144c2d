"""A storage in a folder that stays within its bound, and whole."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from nixery.builds.cache import Cache
from nixery.http.known_answers import AGE
from nixery.http.lending import LEASE
from nixery.interfaces import Provenance
from nixery.model.artifact import EMPTY
from nixery.model.digest import Digest
from nixery.model.limits import DiskLimits
from nixery.model.manifest import CONFIG_TYPE, Descriptor, make_manifest
from nixery.model.request_errors import BlobUnknown
from nixery.storage.filesystem import shrinking
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from nixery.storage.filesystem.housekeeping import Housekeeping
from nixery.storage.filesystem.last_use import Marks
from nixery.storage.filesystem.pace import Pace, Stopped
from nixery.storage.filesystem.scrubbing import Scrubber
from nixery.storage.filesystem.shrinking import AFTER, Shrinker, Shrunk, Used, surplus
from tests.waiting import until

reactor: Any = _reactor

BLOBS = st.lists(
    st.tuples(st.integers(0, 1000), st.uuids().map(lambda u: u.hex), st.integers(0, 100)),
    max_size=30,
    unique_by=lambda blob: blob[1],
)


@given(BLOBS, st.integers(0, 2000), st.integers(0, 1000), st.integers(1, 9))
def test_what_goes(blobs: list[Used], most: int, grace: int, sorted_at_once: int) -> None:
    """Nothing goes that was of use just now, or while there is room; what goes is older than
    what stays, and as much goes as it takes, if it may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrinking, "_SORTED", sorted_at_once)
        gone = surplus(blobs, most, 1000, grace)
    kept = [blob for blob in blobs if blob not in gone]
    assert all(time <= 1000 - grace for time, _, _ in gone)
    if sum(size for _, _, size in blobs) <= most:
        assert not gone
    elif not all(time > 1000 - grace for time, _, _ in kept):
        assert sum(size for _, _, size in kept) <= most * AFTER
    assert gone == sorted(blobs)[: len(gone)]


class Folder:
    """A storage's folder, at a time of the test's own."""

    def __init__(
        self, folder: Path, most: int = 100, grace: float = 60, most_records: int = 1000
    ) -> None:
        for name in ("layers", "builds", "manifests", "used", "staging"):
            (folder / name).mkdir()
        self.path = folder
        self.time = 1e9
        self.count = 0
        self.marks = Marks(str(folder / "used"), 10, lambda: self.time)
        self.shrinker = Shrinker(
            str(folder), self.marks, self.aside, most, grace, lambda: self.time, most_records
        )

    def aside(self) -> str:
        self.count += 1
        return str(self.path / "staging" / str(self.count))

    def blob(self, text: str, size: int = 30) -> str:
        """Put a blob there, used now."""
        content = text.ljust(size).encode()
        name = Digest.of(content).hex
        self.marks.use([name])
        (self.path / "layers" / name).write_bytes(content)
        return name

    def blobs(self) -> set[str]:
        return set(os.listdir(self.path / "layers"))


def test_least_recently_used(tmp_path: Path) -> None:
    """Blobs of least recent use go, with their marks; those of recent use stay."""
    folder = Folder(tmp_path)
    names = []
    for number in range(5):
        names.append(folder.blob(str(number)))
        folder.time += 100
    folder.marks.use([names[0]])
    folder.time += 100
    shrunk = folder.shrinker.shrink()
    assert folder.blobs() == {names[0], names[3], names[4]}
    assert (shrunk.blobs, shrunk.size) == (2, 90)
    assert set(folder.marks.all()) == folder.blobs()
    assert not list((tmp_path / "staging").iterdir())


def test_what_is_of_use_stays(tmp_path: Path) -> None:
    """However full it is, nothing goes that is being pulled."""
    folder = Folder(tmp_path, most=10)
    name = folder.blob("x")
    folder.time += 59
    assert folder.shrinker.shrink().size == 30
    assert folder.blobs() == {name}
    folder.time += 1
    assert folder.shrinker.shrink().size == 0


def test_used_by_another_process(tmp_path: Path) -> None:
    """A blob that another process finds a use for in the very moment is put back."""
    folder = Folder(tmp_path, most=10)
    name = folder.blob("x")
    folder.time += 100
    other = Marks(str(tmp_path / "used"), 10, lambda: folder.time)
    original = folder.aside

    def meanwhile() -> str:
        other.use([name])
        return original()

    folder.shrinker._aside = meanwhile
    assert folder.shrinker.shrink().blobs == 0
    assert folder.blobs() == {name}


def test_dropped_on_demand(tmp_path: Path) -> None:
    """What is to be dropped stays while it is of use, unless it is to go in any case; what is not
    there is dropped already."""
    folder = Folder(tmp_path)
    old = folder.blob("old")
    folder.time += 100
    used, gone = folder.blob("used"), folder.blob("gone")
    assert folder.shrinker.drop([old, used, "0" * 64], used=False) == [used]
    assert folder.blobs() == {used, gone}
    assert folder.shrinker.drop([gone], used=True) == []
    assert folder.blobs() == {used}
    assert set(folder.marks.all()) == {used}


def test_marks_that_fail(tmp_path: Path) -> None:
    """What can't be marked keeps nothing else from being marked, and is tried again."""
    folder = Folder(tmp_path)
    first, other, last = (digit * 64 for digit in "abc")
    (tmp_path / "used" / other).mkdir()
    fault = folder.marks.use([first, f"{other}/c/d", last])
    assert isinstance(fault, OSError)
    assert set(folder.marks.all()) == {first, other, last}
    assert folder.marks.due([first, f"{other}/c/d", last]) == [f"{other}/c/d"]
    folder.time += 10
    assert folder.marks.due([first, last]) == [first, last]


def test_of_use_while_it_is_looked_for(tmp_path: Path) -> None:
    """What was found to be of no use, and has become so since, is not even moved aside."""
    folder = Folder(tmp_path, most=10)
    name = folder.blob("x")
    folder.time += 100
    blobs = folder.shrinker._blobs

    def meanwhile() -> Iterator[Used]:
        yield from list(blobs())
        folder.marks.use([name])

    folder.shrinker._blobs = meanwhile  # type: ignore[method-assign]
    before = (tmp_path / "layers" / name).stat()
    assert folder.shrinker.shrink().blobs == 0
    assert (tmp_path / "layers" / name).stat() == before


def test_many_at_once(tmp_path: Path) -> None:
    """Processes that shrink one folder at the same time drop together what one alone would."""
    folder = Folder(tmp_path, most=300)
    for number in range(300):
        folder.blob(str(number))
        folder.time += 1
    folder.time += 100
    latest = folder.blob("latest")
    others = [
        Shrinker(
            str(tmp_path),
            Marks(str(tmp_path / "used"), 10, lambda: folder.time),
            lambda: str(tmp_path / "staging" / uuid.uuid4().hex),
            300,
            60,
            lambda: folder.time,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as threads:
        shrunk = list(threads.map(Shrinker.shrink, others))
    assert sum(each.blobs for each in shrunk) == 301 - len(folder.blobs())
    assert latest in folder.blobs()
    assert 8 <= len(folder.blobs()) <= 9
    assert set(folder.marks.all()) == folder.blobs()
    assert not list((tmp_path / "staging").iterdir())


def test_stopped_while_it_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants to stop waits for one blob at most; what was dropped is gone whole."""
    folder = Folder(tmp_path, most=10)
    names = {folder.blob(str(number)) for number in range(9)}
    folder.time += 100
    original, dropped = folder.marks.drop, list[str]()

    def third(name: str) -> None:
        original(name)
        dropped.append(name)
        if len(dropped) == 3:
            folder.shrinker.pace.stop()
            folder.shrinker.pace._since = inf

    monkeypatch.setattr(folder.marks, "drop", third)
    with pytest.raises(Stopped):
        folder.shrinker.shrink()
    assert len(folder.blobs()) == 6
    assert folder.blobs() < names
    assert set(folder.marks.all()) == folder.blobs()
    assert not list((tmp_path / "staging").iterdir())


def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work rests half as long as it works, however small its pieces are."""
    time, rests = [0.0], list[float]()
    ours = Pace(lambda: time[0])
    monkeypatch.setattr(ours, "rest", rests.append)
    for _ in range(1000):
        time[0] += 0.0001
        ours()
    assert sum(rests) == pytest.approx(0.05, rel=0.1)


def test_pace_of_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work rests as often in a thread that has worked for less time than the last one."""
    time, rests = [1000.0], list[float]()
    ours = Pace(lambda: time[0])
    monkeypatch.setattr(ours, "rest", rests.append)
    ours()
    time[0], rests[:] = 0.0, []
    for _ in range(1000):
        time[0] += 0.0001
        ours()
    assert sum(rests) == pytest.approx(0.05, rel=0.1)


def test_strange_blobs_go_as_well(tmp_path: Path) -> None:
    """What lies in a blob's place and is no file goes like one, whatever goes before and after."""
    folder = Folder(tmp_path, most=30)
    for number in range(5):
        name = folder.blob(str(number))
        if number % 2:
            (tmp_path / "layers" / name).unlink()
            (tmp_path / "layers" / name / "in it").mkdir(parents=True)
        folder.time += 100
    assert folder.shrinker.shrink().blobs >= 4
    assert not list((tmp_path / "staging").iterdir())


def test_a_folder_that_is_cleared_away(tmp_path: Path) -> None:
    """Where the folder that blobs are moved aside to is cleared away, all go nevertheless, the next
    time at the latest."""
    folder = Folder(tmp_path, most=30)
    for number in range(3):
        folder.blob(str(number))
        folder.time += 100
    folder.shrinker._aside = lambda: str(tmp_path / "staging" / "gone" / "x")
    assert folder.shrinker.shrink().blobs == 0
    folder.shrinker._aside = folder.aside
    assert folder.shrinker.shrink().blobs == 3


def test_counted_only(tmp_path: Path) -> None:
    """Without a bound blobs are counted, and stay."""
    folder = Folder(tmp_path)
    folder.blob("x")
    folder.blob("y")
    folder.time += 1e9
    marks = Marks(str(tmp_path / "used"), 10, lambda: folder.time)
    counting = Shrinker(str(tmp_path), marks, folder.aside, None, 60, lambda: folder.time)
    assert counting.shrink() == Shrunk(0, 60, 2)
    assert len(folder.blobs()) == 2


def test_what_is_no_record(tmp_path: Path) -> None:
    """What lies among records and is none, or can't be read, keeps nothing from being dropped."""
    folder = Folder(tmp_path, most=10)
    folder.blob("x")
    (tmp_path / "builds" / "0a").mkdir()
    (tmp_path / "builds" / "0b").write_bytes(b"{")
    (tmp_path / "manifests" / "0c").symlink_to("nowhere")
    folder.time += 100
    assert folder.shrinker.shrink() == Shrunk(1, 0, 0)
    assert len(os.listdir(tmp_path / "builds")) == 2


def test_records_of_many_revisions(tmp_path: Path) -> None:
    """Of an image that thousands of revisions have not changed, the latest records are kept."""
    folder = Folder(tmp_path, most=1000, most_records=3)
    for text in "ab":
        digest = f"sha256:{folder.blob(text)}"
        for number in range(5):
            path = tmp_path / "manifests" / f"{text}{number}"
            path.write_text(json.dumps({"record": {"digest": digest}}))
            os.utime(path, (number, number))
    folder.shrinker.shrink()
    assert len(os.listdir(tmp_path / "manifests")) == 10
    folder.time += 86400
    folder.shrinker.shrink()
    kept = {f"{text}{number}" for text in "ab" for number in (2, 3, 4)}
    assert set(os.listdir(tmp_path / "manifests")) == kept
    assert len(folder.blobs()) == 2


def test_records_of_many_blobs(tmp_path: Path) -> None:
    """A record of several blobs stays as long as one of them does, however many others are of the
    same, and goes with the last."""
    folder = Folder(tmp_path, most=100, most_records=1)
    two, one, own = ("2" * 64, "1" * 64, "0" * 64)
    names = [folder.blob(text) for text in "xyz"]
    written = {two: names[:2], one: names[2:], own: names[2:]}
    for name, named in written.items():
        digests = [f"sha256:{each}" for each in named]
        record = {"digest": digests[0]} if name == own else {"digests": digests}
        (tmp_path / "manifests" / name).write_text(json.dumps({"record": record}))
        os.utime(tmp_path / "manifests" / name, (5, 5))
    (tmp_path / "layers" / names[0]).unlink()
    folder.time += 86400
    folder.shrinker.shrink()
    assert set(os.listdir(tmp_path / "manifests")) == set(written)
    (tmp_path / "layers" / names[1]).unlink()
    folder.time += 86400
    folder.shrinker.shrink()
    assert set(os.listdir(tmp_path / "manifests")) == {one, own}


def test_what_is_attached_goes_with_its_image(tmp_path: Path) -> None:
    """What is attached to an image is dropped with the list of it when the image is gone, but for
    what is in use, and for what all images have in common; that of another image stays."""
    folder = Folder(tmp_path, most=1000)
    (tmp_path / "referrers").mkdir()
    image, other, idle, busy, of_other = (folder.blob(text) for text in "abcde")
    shared = Digest.of(EMPTY).hex
    (tmp_path / "layers" / shared).write_bytes(EMPTY)
    for subject, attached in ((image, [idle, busy, shared]), (other, [of_other, shared])):
        record = {"digest": f"sha256:{subject}", "blobs": dict.fromkeys(attached, 30)}
        (tmp_path / "referrers" / subject).write_text(json.dumps({"record": record}))
    folder.time += 86400
    folder.shrinker.shrink()
    assert len(folder.blobs()) == 6
    (tmp_path / "layers" / image).unlink()
    folder.time += 86400
    folder.marks.use([busy])
    shrunk = folder.shrinker.shrink()
    assert os.listdir(tmp_path / "referrers") == [other]
    assert folder.blobs() == {other, busy, of_other, shared}
    assert (shrunk.blobs, shrunk.left, shrunk.size) == (1, 4, 92)


def test_files_of_others(tmp_path: Path) -> None:
    """Whatever is not named by a digest or a key is neither dropped nor counted, however full the
    storage is, and however old."""
    folder = Folder(tmp_path, most=1)
    gone = f"sha256:{'0' * 64}"
    others = {"layers/base.psd", "used/notes.txt", "manifests/cargo.json", "builds/x.json"}
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"record": {"digest": gone}}))
        os.utime(tmp_path / name, (5, 5))
    folder.blob("x")
    folder.time += 2 * 86400
    shrunk = folder.shrinker.shrink()
    assert (shrunk.blobs, shrunk.size, shrunk.left) == (1, 0, 0)
    assert all((tmp_path / name).exists() for name in others)


def test_blobs_without_marks(tmp_path: Path) -> None:
    """A blob of an earlier version's, without a mark, is as old as its file."""
    folder = Folder(tmp_path, most=10)
    name = folder.blob("x")
    os.unlink(tmp_path / "used" / name)
    os.utime(tmp_path / "layers" / name, (5, 5))
    assert folder.shrinker.shrink().blobs == 1


@pytest.mark.parametrize("seconds", [20, 600])
def test_what_is_served_from_memory(tmp_path: Path, seconds: float) -> None:
    """An image stays for as long after its last pull as it is said to, even if the storage did not
    learn of that one, since all of it was known."""
    folder = Folder(tmp_path, most=10)
    limits = DiskLimits(storage_max=10, storage_grace=seconds)
    marks = Marks(str(tmp_path / "used"), min(30, seconds / 4), lambda: folder.time)
    keeping: Any = Housekeeping(reactor, str(tmp_path), marks, folder.aside, limits)
    name = folder.blob("x")
    pulled = folder.time + marks.fresh + AGE + LEASE
    for since, dropped in ((seconds - 1, 0), (seconds + 2, 1)):
        folder.time = pulled + since
        keeping._shrinker._now = lambda: folder.time
        assert keeping._shrinker.shrink().blobs == dropped
    assert name not in folder.blobs()


def test_a_clock_that_was_ahead(tmp_path: Path) -> None:
    """What was used or made in a future that a wrong clock has shown is as if used now: it is not
    kept for ever."""
    folder = Folder(tmp_path, most=10)
    marked, unmarked, gone = (folder.blob(text) for text in "xyz")
    future = folder.time + 1e7
    os.utime(tmp_path / "used" / marked, (future, future))
    os.utime(tmp_path / "used" / gone, (future, future))
    os.unlink(tmp_path / "layers" / gone)
    os.unlink(tmp_path / "used" / unmarked)
    os.utime(tmp_path / "layers" / unmarked, (future, future))
    assert folder.shrinker.shrink().blobs == 0
    folder.time += 100
    assert folder.shrinker.shrink().blobs == 2
    assert os.listdir(tmp_path / "used") == []


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    made = FilesystemStorage(
        reactor, str(tmp_path), DiskLimits(storage_max=2000, storage_grace=0.05, scrub_days=0)
    )
    pytest_twisted.blockon(Deferred.fromCoroutine(made.start()))
    return made


def blob_of(record: Path) -> Path:
    """The blob that a record is about."""
    with contextlib.suppress(FileNotFoundError):
        digest = Digest.parse(json.loads(record.read_bytes())["record"]["digest"])
        return record.parents[1] / "layers" / digest.hex
    return record.parent  # it is no more


@pytest_twisted.ensureDeferred
async def test_images_go_whole(storage: FilesystemStorage, tmp_path: Path) -> None:
    """Images that were not asked for go with all that is remembered of them; those that were
    are whole."""
    cache = Cache(storage, remembered=1)
    for number in range(12):
        content = str(number).encode() * 300
        config = Descriptor(CONFIG_TYPE, await storage.write_blob(content), len(content))
        manifest = make_manifest(config, [])
        await cache.remember_manifest(f"{number:x}", manifest, Provenance("x", "1"))
        assert await cache.manifest(f"{number:x}") is not None
        await deferLater(reactor, 0.06, lambda: None)
    await until(lambda: storage.housekeeping.dropped > 5)
    assert await cache.manifest("0") is None
    latest = await cache.manifest("b")
    assert latest is not None
    assert not await storage.missing_blobs(latest.blobs)
    # Of each image: what it is, and what it was made from.
    await until(lambda: all(blob_of(path).exists() for path in (tmp_path / "manifests").iterdir()))
    names = {path.name for path in (tmp_path / "manifests").iterdir()}
    assert "0" not in names
    storage.stop()


@pytest_twisted.ensureDeferred
async def test_a_dropped_blob_is_unknown(storage: FilesystemStorage) -> None:
    """What was dropped is not there, rather than wrong."""
    digest = await storage.write_blob(b"x" * 1500)
    await deferLater(reactor, 0.1, lambda: None)
    await storage.write_blob(b"y" * 1500)
    await until(lambda: storage.housekeeping.dropped > 0)
    with pytest.raises(BlobUnknown):
        await storage.locate(digest)
    storage.stop()


def test_scrubbed_in_turn(tmp_path: Path) -> None:
    """All blobs are verified in turn, at a pace by their size, from where another process left
    off; damaged ones are dropped."""
    folder = Folder(tmp_path)
    names = sorted(folder.blob(str(number), 10 * (number + 1)) for number in range(4))
    (tmp_path / "layers" / names[2]).write_bytes(b"flipped")
    scrubber = Scrubber(str(tmp_path), folder.aside)
    total = sum((tmp_path / "layers" / name).stat().st_size for name in names)
    first = (tmp_path / "layers" / names[0]).stat().st_size
    assert scrubber.next(1000) == (1000 * first / total, "")
    later = Scrubber(str(tmp_path), folder.aside)
    told = [later.next(1000)[1] for _ in range(3)]
    assert [names[2] in each for each in told] == [False, True, False]
    assert (later.verified, later.damaged) == (3, 1)
    assert folder.blobs() == set(names) - {names[2]}
    assert later.next(1000)[1] == ""  # the next round
    assert not list((tmp_path / "staging").iterdir())


def test_many_small_blobs(tmp_path: Path) -> None:
    """However many blobs there are, all are verified in a round: those that are due at once, one
    after the other, and none of the next round with them."""
    folder = Folder(tmp_path)
    names = sorted(folder.blob(f"{number:02}", 10) for number in range(20))
    scrubber = Scrubber(str(tmp_path), folder.aside)
    assert scrubber.next(40, least=5) == (6, "")
    assert scrubber.verified == 3
    (tmp_path / "layers" / names[4]).write_bytes(b"flipped")
    seconds, damage = scrubber.next(40, least=10)
    assert (seconds, scrubber.verified) == (10, 5)
    assert names[4] in damage
    assert scrubber.next(40, least=100) == (100, "")
    assert scrubber.verified == 20


def test_scrubbed_on_a_full_disk(tmp_path: Path) -> None:
    """Where it can't be noted how far it is, nothing is left of the attempt."""
    folder = Folder(tmp_path)
    folder.blob("x")
    (tmp_path / "scrubbed").mkdir()
    with pytest.raises(IsADirectoryError):
        Scrubber(str(tmp_path), folder.aside).next(1000)
    assert not list((tmp_path / "staging").iterdir())


@pytest_twisted.ensureDeferred
async def test_told(tmp_path: Path) -> None:
    """How much a storage holds is known from the start, also without a bound."""
    storage = FilesystemStorage(reactor, str(tmp_path))
    await storage.start()
    await storage.write_blob(b"x" * 1000)
    await storage.write_blob(b"y" * 500)
    storage.stop()
    other = FilesystemStorage(reactor, str(tmp_path))
    await other.start()
    await until(lambda: other.housekeeping.count == 2)
    assert other.housekeeping.size == 1500
    other.stop()


@pytest_twisted.ensureDeferred
async def test_of_use(storage: FilesystemStorage, tmp_path: Path) -> None:
    """What one process says is of use is so for all that share the folder, and is noted once for
    a while."""
    other = FilesystemStorage(reactor, str(tmp_path), DiskLimits(storage_grace=1000, scrub_days=0))
    digest = await storage.write_blob(b"x")
    mark = tmp_path / "used" / digest.hex
    os.utime(mark, (5, 5))
    await other.use([digest])
    noted = mark.stat().st_mtime_ns
    assert noted > 5e9
    await other.use([digest])
    assert mark.stat().st_mtime_ns == noted
    storage.stop()


def test_nothing_to_scrub(tmp_path: Path) -> None:
    """An empty storage has time, but it is not empty for ever."""
    folder = Folder(tmp_path)
    assert Scrubber(str(tmp_path), folder.aside).next(1e6) == (3600, "")
    assert Scrubber(str(tmp_path), folder.aside).next(1000) == (1000, "")


def test_scrubbing_stops(tmp_path: Path) -> None:
    """A large blob that is being read keeps nobody waiting who wants to stop."""
    folder = Folder(tmp_path)
    folder.blob("x", 10_000_000)
    scrubber = Scrubber(str(tmp_path), folder.aside, rate=1)
    scrubber.stop()
    with pytest.raises(Stopped):
        scrubber.next(1000)
    assert len(folder.blobs()) == 1


@pytest_twisted.ensureDeferred
async def test_scrubbed_in_the_background(tmp_path: Path, monkeypatch: Any) -> None:
    """A storage finds damage by itself."""
    monkeypatch.setattr("nixery.storage.filesystem.housekeeping._SOONEST", 0.01)
    storage = FilesystemStorage(reactor, str(tmp_path), DiskLimits(scrub_days=1e-6))
    await storage.start()
    digest = await storage.write_blob(b"good")
    (tmp_path / "layers" / digest.hex).write_bytes(b"bad!")
    await until(lambda: storage.housekeeping.scrubber.damaged == 1)
    assert not (tmp_path / "layers" / digest.hex).exists()
    storage.stop()


@pytest_twisted.ensureDeferred
async def test_stopped_amid_a_blob(tmp_path: Path, monkeypatch: Any) -> None:
    """To stop a storage that is reading a blob is no fault."""
    monkeypatch.setattr("nixery.storage.filesystem.housekeeping._SOONEST", 0.01)
    folder, reading = Folder(tmp_path), []
    folder.blob("x", 10_000_000)

    class Noting(Scrubber):
        def next(self, round_seconds: float, least: float = 0.0) -> tuple[float, str]:
            reading.append(True)
            return super().next(round_seconds, least)

    storage = FilesystemStorage(reactor, str(tmp_path), DiskLimits(scrub_days=1))
    storage.housekeeping.scrubber = Noting(str(tmp_path), folder.aside, rate=1)
    await storage.start()
    await until(lambda: bool(reading))
    with capturedLogs() as logs:
        storage.stop()
    assert logs == []
