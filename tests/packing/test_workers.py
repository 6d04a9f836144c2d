# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The pool of packing processes, with real children and with ones that misbehave."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer

from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.digest import Digest
from nixery.model.events import Collided, Event
from nixery.model.package_errors import EvaluationFailed
from nixery.model.service_errors import ShuttingDown, StorageFull, StorageUnavailable
from nixery.packing.job import FurnishJob, PackJob
from nixery.packing.tar import Entry
from nixery.packing.workers import Packers
from tests.packing.conftest import entries_file
from tests.packing.test_furnishing import request

reactor: Any = _reactor


@implementer(IReactorProcess)
class Spawner:
    """Starts processes and remembers them."""

    def __init__(self) -> None:
        self.started: list[IProcessTransport] = []
        self.room = True
        """Whether the system has any for another process."""

    def spawnProcess(self, *args: Any, **kwargs: Any) -> IProcessTransport:
        if not self.room:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        transport: IProcessTransport = reactor.spawnProcess(*args, **kwargs)
        self.started.append(transport)
        return transport


@pytest.fixture
def spawner() -> Spawner:
    return Spawner()


@pytest.fixture
def pool(spawner: Spawner) -> Iterator[Callable[..., Packers]]:
    """Makes pools, and stops them when the test is over."""
    made: list[Packers] = []

    def make(count: int = 1, **more: Any) -> Packers:
        made.append(Packers(spawner, reactor, count=count, **more))
        return made[-1]

    yield make
    for packers in made:
        pytest_twisted.blockon(packers.stop())


@pytest.fixture
def caught() -> Iterator[Callable[[], list[str]]]:
    """Gives the errors that were logged meanwhile."""
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield lambda: [
        formatEvent(event) for event in events if event.get("log_level") is LogLevel.error
    ]
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe to be a sink."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def stuck(tmp_path: Path, pipe: Path) -> PackJob:
    """A job that does not end: its sink is a pipe that nobody reads, however much it holds."""
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 36)
    return PackJob(str(pipe), "fast", [("/nix/store/abc-x", str(tmp_path / "huge"))])


ETC = Entry("etc", "dir", 0o755)


def _job(tmp_path: Path, name: str = "sink") -> PackJob:
    return PackJob(str(tmp_path / name), "fast", entries=entries_file(tmp_path, ETC))


def _script(tmp_path: Path, code: str) -> str:
    """A program that is started in the place of Python."""
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{code}")
    script.chmod(0o755)
    return str(script)


async def _moment(seconds: float = 0.01) -> None:
    await deferLater(reactor, seconds, lambda: None)


@pytest_twisted.ensureDeferred
async def test_a_layer(pool: Callable[..., Packers], store_path: Path, tmp_path: Path) -> None:
    """A layer is packed, and all that is said of it is true of its sink."""
    sink = tmp_path / "sink"
    pairs = [("/nix/store/abc-x", str(store_path))]
    layer = await pool().run(PackJob(str(sink), "fast", pairs))
    assert layer.digest == Digest.of(sink.read_bytes())
    assert layer.size == sink.stat().st_size
    assert layer.uncompressed % 512 == 0


@pytest_twisted.ensureDeferred
async def test_a_root_file_system(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """A root file system is made with all collisions told, and packed from the file it is in."""
    events: list[Event] = []
    packers, sink = pool(), str(tmp_path / "entries")
    asked = request(tmp_path / "store", a=150, b=150)
    made = await packers.run(FurnishJob(sink, asked, events.append))
    assert len({event.name for event in events if isinstance(event, Collided)}) == 150
    assert "PATH" in made.execution.environment
    layer = await packers.run(PackJob(str(tmp_path / "layer"), "fast", entries=sink))
    assert layer.uncompressed > 150 * 512


@pytest_twisted.ensureDeferred
async def test_packages_that_are_refused(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """An error of the packages' own arrives as it was raised."""
    asked = request(tmp_path / "store", a=1)
    (root,) = asked.realisation.roots
    wrong = attrs.evolve(root, said={"no": "such key"})
    asked = attrs.evolve(asked, realisation=attrs.evolve(asked.realisation, roots=(wrong,)))
    with pytest.raises(EvaluationFailed, match="no"):
        await pool().run(FurnishJob(str(tmp_path / "entries"), asked, lambda event: None))
    full = FurnishJob("/dev/full", request(tmp_path / "other", a=1), lambda event: None)
    with pytest.raises(StorageFull, match="state folder"):
        await pool().run(full)


@pytest_twisted.ensureDeferred
async def test_many_layers(pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path) -> None:
    """More layers than children: each child does many, and all layers are the same."""
    packers = pool(2)
    jobs = [_job(tmp_path, f"sink{number}") for number in range(20)]
    layers = await DeferredList([packers.run(job) for job in jobs], fireOnOneErrback=True)
    assert len({layer for _, layer in layers}) == 1
    assert len(spawner.started) == 2


def test_nothing_is_started_before_it_is_needed(
    pool: Callable[..., Packers], spawner: Spawner
) -> None:
    """A pool without work has no children."""
    pool(3)
    assert spawner.started == []


@pytest_twisted.ensureDeferred
async def test_without_work(pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path) -> None:
    """Children that have had no job for a while end in peace, and the next job starts another."""
    packers = pool(idle=0.1)
    for count in (1, 2):
        await packers.run(_job(tmp_path))
        assert len(spawner.started) == count
        while len(packers):
            await _moment()
    assert [process.pid for process in spawner.started] == [None, None]


@pytest_twisted.ensureDeferred
async def test_busy_children_stay(
    pool: Callable[..., Packers], spawner: Spawner, pipe: Path, tmp_path: Path
) -> None:
    """A child that has a job is not taken for one without, however long that takes."""
    packers = pool(count=2, idle=0.1)
    running, other = packers.run(_job(tmp_path, "pipe")), packers.run(_job(tmp_path))
    await other
    while len(packers) == 2:
        await _moment()
    await deferToThread(pipe.read_bytes)
    await running
    assert len(spawner.started) == 2


@pytest_twisted.ensureDeferred
async def test_a_child_in_advance(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """A child that was started for a job to come does it; there is one, however often."""
    packers = pool(count=2)
    for _ in range(2):
        packers.prepare()
    await packers.run(_job(tmp_path))
    packers.prepare()
    assert len(spawner.started) == 1


@pytest_twisted.ensureDeferred
async def test_one_after_another(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """Layers that wait are packed in the order in which they were asked for."""
    packers, order = pool(1), list[int]()

    async def pack(number: int) -> None:
        await packers.run(_job(tmp_path))
        order.append(number)

    tasks = [Deferred.fromCoroutine(pack(number)) for number in range(5)]
    await DeferredList(tasks, fireOnOneErrback=True)
    assert order == [0, 1, 2, 3, 4]


@pytest_twisted.ensureDeferred
async def test_a_path_at_fault(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """A layer that can't be packed fails with the path's name; the child goes on."""
    packers = pool()
    job = PackJob(str(tmp_path / "sink"), "fast", [("/nix/store/abc-x", "/dev/null")])
    with pytest.raises(PackingFailed) as caught:
        await packers.run(job)
    assert caught.value.path == "/nix/store/abc-x"
    assert "device" in caught.value.reason
    await packers.run(_job(tmp_path))
    assert len(spawner.started) == 1


@pytest_twisted.ensureDeferred
async def test_a_full_disk(pool: Callable[..., Packers]) -> None:
    """No room is an error of its own."""
    with pytest.raises(StorageFull):
        await pool().run(PackJob("/dev/full", "fast"))


@pytest_twisted.ensureDeferred
async def test_a_child_that_is_killed(
    pool: Callable[..., Packers], spawner: Spawner, stuck: PackJob, tmp_path: Path
) -> None:
    """A child that is killed fails its own job, and the next one gets another child."""
    packers = pool()
    task, after = packers.run(stuck), packers.run(_job(tmp_path))
    os.kill(spawner.started[0].pid, signal.SIGKILL)
    with pytest.raises(PackerKilled, match="signal 9"):
        await task
    await after
    assert len(spawner.started) == 2


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        "[]",
        "{}",
        '{"id": 2}',
        '{"id": 1}',
        '{"id": 1, "error": {}}',
        '{"id": 1, "digest": "md5:0", "diff_id": "", "size": 1, "uncompressed": 1}',
        "x" * 2_000_000,
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_makes_no_sense(
    pool: Callable[..., Packers], tmp_path: Path, answer: str, caught: Callable[[], list[str]]
) -> None:
    """A child that says anything but an answer is given up, and the log has how that begins."""
    code = f"input(); print({answer!r}, flush=True); input()"
    with pytest.raises(PackingFailed, match="invalid answer"):
        await pool(executable=_script(tmp_path, code)).run(_job(tmp_path))
    (line,) = (each for each in caught() if "a packing process wrote" in each)
    assert answer[:100] in line
    assert len(line) < 1000


@pytest_twisted.ensureDeferred
async def test_a_child_that_can_not_run(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """What a child said last is in the error."""
    packers = pool(executable=_script(tmp_path, "raise SystemExit('no module named isal')"))
    for _ in range(2):
        with pytest.raises(PackingFailed, match="status 1: no module named isal"):
            await packers.run(_job(tmp_path))


@pytest_twisted.ensureDeferred
async def test_a_sink_at_fault(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """That a layer can't be written where it is wanted says nothing of what is in it."""
    job = PackJob(str(tmp_path / "none" / "sink"), "fast")
    with pytest.raises(StorageUnavailable, match=r"it can't be written: No such file.*none/sink"):
        await pool().run(job)


@pytest_twisted.ensureDeferred
async def test_no_such_program(pool: Callable[..., Packers], tmp_path: Path) -> None:
    """A Python that is not there fails the job and not the daemon."""
    with pytest.raises(PackingFailed):
        await pool(executable=str(tmp_path / "none")).run(_job(tmp_path))


@pytest_twisted.ensureDeferred
async def test_no_room_for_a_process(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """Where no process can be started, nothing is wrong with the layer."""
    spawner.room = False
    with pytest.raises(PackerKilled, match="Resource temporarily unavailable"):
        await pool().run(_job(tmp_path))


@pytest_twisted.ensureDeferred
async def test_no_room_for_another_process(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """Where no more processes can be started, those that are there do all the work."""
    packers = pool(count=2)
    jobs = [packers.run(_job(tmp_path, "one"))]
    spawner.room = False
    jobs.append(packers.run(_job(tmp_path, "two")))
    for job in jobs:
        await job
    assert len(spawner.started) == 1


@pytest_twisted.ensureDeferred
async def test_cancelling_a_running_job(
    pool: Callable[..., Packers], spawner: Spawner, stuck: PackJob, tmp_path: Path
) -> None:
    """Who cancels is told at once; the child is killed, and the next job gets another."""
    packers = pool()
    task, after = packers.run(stuck), packers.run(_job(tmp_path))
    with await deferToThread(open, stuck.sink, "rb"):
        task.cancel()
        with pytest.raises(CancelledError):
            await task
    await after
    assert len(spawner.started) == 2
    assert spawner.started[0].pid is None


@pytest_twisted.ensureDeferred
async def test_cancelling_a_waiting_job(
    pool: Callable[..., Packers], spawner: Spawner, pipe: Path, tmp_path: Path
) -> None:
    """A job that waits is taken from the queue; the one that runs is not touched."""
    packers = pool()
    running, waiting = packers.run(_job(tmp_path, "pipe")), packers.run(_job(tmp_path, "never"))
    after = packers.run(_job(tmp_path))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await deferToThread(pipe.read_bytes)
    await running
    await after
    assert not (tmp_path / "never").exists()
    assert len(spawner.started) == 1


@pytest_twisted.ensureDeferred
async def test_stopping(
    pool: Callable[..., Packers], spawner: Spawner, stuck: PackJob, tmp_path: Path
) -> None:
    """When the pool stops, every job fails, and no child is left."""
    packers = pool()
    tasks = [packers.run(stuck), packers.run(_job(tmp_path))]
    stops = [packers.stop(), packers.stop()]
    for task in [*tasks, packers.run(_job(tmp_path))]:
        with pytest.raises(ShuttingDown):
            await task
    for stop in stops:
        await stop
    assert [process.pid for process in spawner.started] == [None]


@pytest_twisted.ensureDeferred
async def test_stopping_a_child_that_will_not(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """A child that takes no notice is killed when its time is over."""
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "time.sleep(60)"
    )
    packers = pool(executable=_script(tmp_path, code), grace=0.1)
    task: Deferred[Any] = packers.run(_job(tmp_path))
    while not (tmp_path / "ready").exists():
        await _moment()
    stopped = packers.stop()
    with pytest.raises(ShuttingDown):
        await task
    await stopped
    assert spawner.started[0].pid is None


@pytest_twisted.ensureDeferred
async def test_children_are_out_of_the_terminal(
    pool: Callable[..., Packers], spawner: Spawner, tmp_path: Path
) -> None:
    """A child has a session of its own, and nothing of our environment but how modules are found
    and memory is had."""
    await pool().run(_job(tmp_path))
    pid = spawner.started[0].pid
    assert pid is not None
    assert os.getsid(pid) == pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().rstrip(b"\0").split(b"\0")
    names = {line.split(b"=")[0] for line in environment}
    allocation = {b"MALLOC_MMAP_THRESHOLD_", b"MALLOC_TRIM_THRESHOLD_"}
    assert names <= {b"PYTHONPATH", b"LD_LIBRARY_PATH"} | allocation


@pytest_twisted.ensureDeferred
async def test_wrong_blocks_are_told_of(
    pool: Callable[..., Packers], tmp_path: Path, caught: Callable[[], list[str]]
) -> None:
    """Blocks that had to be compressed in a second way are counted and logged, with the place of
    the reports, which the child is told."""
    answer = {"digest": str(Digest.of(b"")), "diff_id": str(Digest.of(b"")), "replaced": 2}
    code = f"""
import json, pathlib, sys
job = json.loads(sys.stdin.readline())
pathlib.Path({str(tmp_path / "argv")!r}).write_text(sys.argv[-1])
print(json.dumps({{**{answer!r}, "id": job["id"], "size": 1, "uncompressed": 1}}), flush=True)
"""
    packers = pool(executable=_script(tmp_path, code), reports="/reports")
    assert (await packers.run(_job(tmp_path))).replaced == 2
    assert packers.replaced == 2
    assert (tmp_path / "argv").read_text() == "/reports"
    [line] = caught()
    assert line.startswith("2 blocks of layer sha256:")
    assert line.endswith("/reports")
