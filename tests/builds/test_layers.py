"""Layers: packed once, side by side."""

import os
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred

from nixery.builds.cache import Cache
from nixery.builds.layers import LayerContents, LayerMaker, gather
from nixery.model.build_errors import PackerKilled, PackingFailed
from nixery.model.events import Event, Packed, Stored
from nixery.model.layer_key import layer_key
from nixery.model.manifest import Layer
from nixery.model.service_errors import ShuttingDown, StorageFull, StorageUnavailable
from nixery.packing.codecs import media_type
from nixery.packing.job import PackedLayer
from nixery.storage.memory import MemoryStorage, MemoryUpload
from tests.builds.fakes import FakeNix, FakePackers, store_path

A, B = store_path("a"), store_path("b")


def contents_of(*paths: str) -> LayerContents:
    return LayerContents(layer_key("packer", paths), paths)


class Workshop:
    """A maker of layers over fakes, and the fakes."""

    def __init__(self, folder: Path, compression: str = "fast") -> None:
        self.storage = MemoryStorage()
        self.packers = FakePackers()
        self.nix = FakeNix(str(folder))
        self.events: list[Event] = []
        cache = Cache(self.storage)
        self.maker = LayerMaker(self.storage, cache, self.nix, self.packers, compression)  # type: ignore[arg-type]

    def make(self, contents: LayerContents) -> Deferred[Layer]:
        return Deferred.fromCoroutine(self.maker.make(contents, self.events.append))

    def left_behind(self) -> list[str]:
        """Sinks that are still there."""
        return [job.sink for job in self.packers.jobs if os.path.exists(job.sink)]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest_twisted.ensureDeferred
async def test_layers_are_made_once(workshop: Workshop) -> None:
    """A layer is stored under its digest, told, known from then on, and leaves no sink."""
    contents = contents_of(A, B)
    assert await workshop.maker.known([contents, contents_of(A)]) == [None, None]
    layer = await workshop.make(contents)
    assert layer.paths == tuple(sorted((A, B)))
    assert layer.descriptor.media_type == media_type("fast")
    assert len(workshop.storage.blobs[layer.descriptor.digest]) == layer.descriptor.size
    assert await workshop.maker.known([contents_of(A), contents]) == [None, layer]
    packed, stored = workshop.events
    assert isinstance(packed, Packed)
    assert packed.digest == str(layer.descriptor.digest)
    assert stored == Stored(packed.digest)
    assert workshop.left_behind() == []


@pytest_twisted.ensureDeferred
async def test_what_is_packed(workshop: Workshop, tmp_path: Path) -> None:
    """A packer is told where each store path's files are, and the file of the entries."""
    (tmp_path / "entries").touch()
    await workshop.make(attrs.evolve(contents_of(A), entries=str(tmp_path / "entries")))
    (job,) = workshop.packers.jobs
    assert list(job.paths) == [(A, workshop.nix.physical(A))]
    assert job.entries == str(tmp_path / "entries")


@pytest_twisted.ensureDeferred
async def test_two_builds_share_a_layer_in_the_making(workshop: Workshop) -> None:
    """Two builds that need a layer at once pack it once, and one that leaves hurts nobody."""
    workshop.packers.gate = gate = Deferred[PackedLayer]()
    first, second = workshop.make(contents_of(A)), workshop.make(contents_of(A))
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    (job,) = workshop.packers.jobs
    workshop.packers.gate = None
    packed = await workshop.packers.run(job)
    gate.callback(packed)
    assert (await second).descriptor.digest == packed.digest


@pytest_twisted.ensureDeferred
async def test_entries_are_needed_by_others(workshop: Workshop, tmp_path: Path) -> None:
    """The file of a build that is given up is in use until the layer is packed for another."""
    (tmp_path / "entries").touch()
    workshop.packers.gate = gate = Deferred[PackedLayer]()
    contents = attrs.evolve(contents_of(A), entries=str(tmp_path / "entries"))
    first, second = workshop.make(contents), workshop.make(contents_of(A))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    unused = workshop.maker.when_packed(str(tmp_path / "entries"))
    assert not unused.called
    (job,) = workshop.packers.jobs
    workshop.packers.gate = None
    gate.callback(await workshop.packers.run(job))
    await second
    assert unused.called


@pytest_twisted.ensureDeferred
async def test_failures_are_not_remembered(workshop: Workshop) -> None:
    """A layer that can't be packed, arrives cut, or has no room is an error, leaves nothing
    behind, and is tried again."""
    contents = contents_of(A)
    workshop.packers.error = lambda job: PackingFailed(A, "no")
    with pytest.raises(PackingFailed):
        await workshop.make(contents)
    workshop.packers.error = lambda job: None
    workshop.storage.full = True
    with pytest.raises(StorageFull):
        await workshop.make(contents)
    workshop.storage.full = False
    assert not workshop.storage.blobs
    assert not workshop.storage.records
    assert workshop.left_behind() == []
    assert await workshop.make(contents)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kills", [1, 2])
async def test_a_packer_that_is_killed(workshop: Workshop, kills: int) -> None:
    """A layer whose packing process was killed is packed once more, into another sink."""
    killed = PackerKilled("", "by signal 9")
    workshop.packers.error = lambda job: killed if len(workshop.packers.jobs) <= kills else None
    made = workshop.make(contents_of(A))
    if kills == 1:
        await made
    else:
        with pytest.raises(PackerKilled):
            await made
    first, second = workshop.packers.jobs
    assert first.sink != second.sink
    assert workshop.left_behind() == []


@pytest_twisted.ensureDeferred
async def test_a_storage_that_takes_no_more(workshop: Workshop) -> None:
    """If a layer can't be written because the storage failed, that is the cause which is told."""

    class Failing(MemoryStorage):
        async def receive(self) -> MemoryUpload:
            upload = await super().receive()
            upload.fault = StorageFull()
            return upload

    workshop.packers.error = lambda job: StorageUnavailable("Broken pipe")
    with pytest.raises(StorageUnavailable):
        await workshop.make(contents_of(A))
    storage = Failing()
    maker = LayerMaker(storage, Cache(storage), workshop.nix, workshop.packers, "fast")  # type: ignore[arg-type]
    with pytest.raises(StorageFull):
        await maker.make(contents_of(A), workshop.events.append)


@pytest_twisted.ensureDeferred
async def test_stop(workshop: Workshop) -> None:
    """A stop cancels what is being packed; those who wait, and those who come, are told so."""
    workshop.packers.gate = gate = Deferred[PackedLayer]()
    waiting = workshop.make(contents_of(A))
    await workshop.maker.stop()
    assert gate.called
    for each in (waiting, workshop.make(contents_of(B))):
        with pytest.raises(ShuttingDown):
            await each
    assert workshop.left_behind() == []


def test_compression_is_part_of_the_packer(tmp_path: Path) -> None:
    """Layers that are compressed in another way have other keys."""
    one, other = Workshop(tmp_path, "fast"), Workshop(tmp_path, "small")
    assert one.maker.packer != other.maker.packer


async def wait(gate: Deferred[int]) -> int:
    return await gate


@pytest_twisted.ensureDeferred
async def test_results_keep_their_order() -> None:
    """Results stand in the order of the tasks, whichever ends first."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    for number in (2, 0, 1):
        assert not gathered.called
        gates[number].callback(number)
    assert await gathered == [0, 1, 2]
    assert await gather([]) == []


@pytest_twisted.ensureDeferred
async def test_errors_wait_for_the_others() -> None:
    """An error is raised when all have ended, so that nothing goes on unseen; it is the first
    task's that failed."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    gates[2].errback(KeyError("later in order"))
    gates[1].errback(ValueError("no"))
    assert not gathered.called
    gates[0].callback(0)
    with pytest.raises(ValueError, match="no"):
        await gathered


@pytest_twisted.ensureDeferred
async def test_cancelling_reaches_all() -> None:
    """Cancelling cancels every task."""
    gates: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(wait, gates)))
    gathered.cancel()
    with pytest.raises(CancelledError):
        await gathered
    assert all(gate.called for gate in gates)
