"""Images that are made again, to compare them."""

from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed

from nixery.builds.cache import Cache
from nixery.builds.layers import LayerMaker
from nixery.builds.making import ImageMaker
from nixery.builds.rehearsal import Rehearsal
from nixery.builds.reproducing import Progress, Reproducer, Request
from nixery.model.build_errors import PackingFailed
from nixery.model.closure import Realisation
from nixery.model.digest import Digest
from nixery.model.events import Emit
from nixery.model.identity import Naming
from nixery.model.image import Image, parse_image
from nixery.model.limits import BuildLimits
from nixery.model.reproduction import RebuiltDerivation, Reproduction
from nixery.model.request_errors import ManifestUnknown
from nixery.model.service_errors import QueueFull, ShuttingDown, StorageUnavailable
from nixery.model.source import PinnedSource
from nixery.packing.job import PackJob
from tests.builds.fakes import FakeNix, FakePackers, Parts, make_parts, store_path
from tests.waiting import until

reactor: Any = _reactor
GIT = parse_image("git", "latest")
ADDRESS = "https://example.com/set"


class DerivingNix(FakeNix):
    """Knows derivations: ``libc`` is built here, as one that no package names."""

    async def realise(self, image: Image, pinned: PinnedSource, emit: Emit) -> Realisation:
        made = await super().realise(image, pinned, emit)
        graph: dict[str, Any] = {
            path: {**node, "deriver": f"{path}.drv", "built": True}
            for path, node in made.graph.items()
        }
        return attrs.evolve(made, graph=graph)


class OddPackers(FakePackers):
    """Packs layers with some paths to other bytes than before.

    :ivar odd: is in these paths.
    """

    odd = "nothing"

    def run(self, job: Any) -> Deferred[Any]:
        packed = super().run(job)
        if isinstance(job, PackJob) and any(self.odd in path for path, _ in job.paths):
            other = Digest.of(b"other")
            packed.addCallback(lambda layer: attrs.evolve(layer, digest=other))
        return packed


@attrs.define
class FakeRebuilder:
    """Builds nothing, and says what comes of it.

    :ivar outcomes: derivation → what is said of it, if that is not that it is the same.
    :ivar gate: while it is set, building waits for it.
    """

    built: list[str] = attrs.Factory(list)
    outcomes: dict[str, RebuiltDerivation] = attrs.Factory(dict)
    gate: Deferred[None] | None = None

    async def rebuild(self, derivation: str) -> RebuiltDerivation:
        self.built.append(derivation)
        if self.gate is not None:
            await self.gate
        return self.outcomes.get(derivation, RebuiltDerivation(derivation, "same"))


@attrs.define
class Bench:
    """A reproducer over fakes."""

    parts: Parts
    rebuilder: FakeRebuilder
    packers: OddPackers
    reproducer: Reproducer
    other: dict[str, bytes]

    async def verify(self, **options: Any) -> Reproduction:
        progress = self.reproducer.begin(Request(GIT, **options))
        return await result(progress)


async def result(progress: Progress) -> Reproduction:
    await until(lambda: progress.result is not None or progress.error is not None)
    if progress.error is not None:
        raise progress.error
    assert progress.result is not None
    return progress.result


def make_bench(folder: str, share: float = 0.0, limits: BuildLimits | None = None) -> Bench:
    parts = make_parts(folder, limits=limits, naming=Naming(ADDRESS))
    nix, rebuilder, packers, storage = (
        DerivingNix(folder),
        FakeRebuilder(),
        OddPackers(),
        Rehearsal(),
    )
    maker: ImageMaker = parts.builder._maker
    layers = LayerMaker(storage, Cache(storage), nix, packers, "fast")  # type: ignore[arg-type]
    other: dict[str, bytes] = {}

    async def ask(url: str, image: Image) -> bytes:
        return other[url]

    reproducer = Reproducer(
        reactor,
        parts.builder,
        parts.cache,
        nix,
        rebuilder,
        attrs.evolve(maker, storage=storage, layers=layers),
        ask,
        lambda: succeed(None),
        share,
    )
    return Bench(parts, rebuilder, packers, reproducer, other)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(str(tmp_path))


@pytest_twisted.ensureDeferred
async def test_the_same(bench: Bench) -> None:
    """An image whose parts come out the same is the same; the result is kept, and nothing else."""
    pull = await bench.parts.builder.manifest(GIT)
    blobs = dict(bench.parts.storage.blobs)
    made = await bench.verify()
    assert (made.outcome, made.digest) == ("same", str(pull.manifest.digest))
    assert made.again == made.digest
    assert made.address == ADDRESS
    assert len(made.layers) == len(pull.manifest.blobs) - 1
    assert bench.rebuilder.built == [f"{store_path('git-1.0')}.drv"]
    assert bench.parts.storage.blobs == blobs
    assert await bench.parts.cache.verified(pull.manifest.digest) == made.document()


@pytest_twisted.ensureDeferred
async def test_deep(bench: Bench) -> None:
    """All that was built here is built again if that is wanted."""
    await bench.parts.builder.manifest(GIT)
    await bench.verify(deep=True)
    assert set(bench.rebuilder.built) == {
        f"{store_path(name)}.drv" for name in ("git-1.0", "libc-2.0")
    } | {f"{store_path(f'{name}-1.0')}.drv" for name in GIT.optional if name in GIT.packages}


@pytest_twisted.ensureDeferred
async def test_a_derivation_that_differs(bench: Bench) -> None:
    """A derivation that differs makes the image differ."""
    await bench.parts.builder.manifest(GIT)
    derivation = f"{store_path('git-1.0')}.drv"
    bench.rebuilder.outcomes[derivation] = RebuiltDerivation(derivation, "differs", "bin/git")
    made = await bench.verify()
    assert made.outcome == "differs"
    assert [each.detail for each in made.derivations] == ["bin/git"]
    assert bench.reproducer.outcomes == {"differs": 1}


@pytest_twisted.ensureDeferred
async def test_a_layer_that_differs(bench: Bench) -> None:
    """A layer that is packed to other bytes is named, with its paths."""
    await bench.parts.builder.manifest(GIT)
    bench.packers.odd = "libc"
    made = await bench.verify()
    assert made.outcome == "differs"
    (layer,) = [layer for layer in made.layers if layer.outcome != "same"]
    assert any("libc" in path for path in layer.paths)
    assert layer.again == str(Digest.of(b"other"))


@pytest_twisted.ensureDeferred
async def test_other_groups(bench: Bench) -> None:
    """Where popularity groups paths in other layers now, those of the image are packed again."""
    await bench.parts.builder.manifest(GIT)
    bench.reproducer._maker = attrs.evolve(bench.reproducer._maker, budget=2)
    made = await bench.verify()
    assert made.outcome == "same"
    assert made.again == ""
    assert all(layer.outcome == "same" for layer in made.layers)


@pytest_twisted.ensureDeferred
async def test_an_image_that_was_not_made(bench: Bench) -> None:
    """An image that was not made is not made to be verified."""
    with pytest.raises(ManifestUnknown):
        await bench.verify()
    assert bench.rebuilder.built == []


@pytest_twisted.ensureDeferred
async def test_a_failure(bench: Bench) -> None:
    """What can't be packed is an error of the verification, not a difference."""
    await bench.parts.builder.manifest(GIT)
    bench.packers.error = lambda job: PackingFailed("/nix/store/x", "odd")
    with pytest.raises(PackingFailed):
        await bench.verify()


@pytest_twisted.ensureDeferred
async def test_another_registry(bench: Bench) -> None:
    """Another registry's image is compared by digests, layer by layer; another revision is
    told."""
    pull = await bench.parts.builder.manifest(GIT)
    bench.other["https://same"] = pull.manifest.content
    made = await bench.verify(against="https://same")
    assert (made.outcome, made.remark) == ("same", "")
    other = await bench.parts.builder.manifest(parse_image("git/jq", "latest"))
    revision = pull.manifest.content
    assert b'"org.opencontainers.image.revision":"1"' in revision
    bench.other["https://other"] = other.manifest.content.replace(
        b'image.revision":"1"', b'image.revision":"2"'
    )
    made = await bench.verify(against="https://other")
    assert made.outcome == "differs"
    assert made.remark == "it serves the revision 2"
    assert {layer.outcome for layer in made.layers} == {"same", "failed"}
    assert bench.rebuilder.built == []


@pytest_twisted.ensureDeferred
async def test_many_ask_once(bench: Bench) -> None:
    """Who asks for a verification that runs gets that one's result; another one waits for it."""
    await bench.parts.builder.manifest(GIT)
    gate: Deferred[None] = Deferred()
    bench.rebuilder.gate = gate
    first, second = (bench.reproducer.begin(Request(GIT)) for _ in range(2))
    other = bench.reproducer.begin(Request(GIT, deep=True))
    await until(lambda: bool(bench.rebuilder.built))
    assert first is second
    assert (first.done, first.total, other.step) == (0, 1, "")
    bench.rebuilder.gate = None
    gate.callback(None)
    assert (await result(first)).outcome == (await result(other)).outcome == "same"


@pytest_twisted.ensureDeferred
async def test_too_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for too many verifications is refused; of the sample, some are left out then."""
    monkeypatch.setattr("nixery.builds.reproducing._MOST", 1)
    await bench.parts.builder.manifest(GIT)
    running = bench.reproducer.begin(Request(GIT))
    with pytest.raises(QueueFull):
        bench.reproducer.begin(Request(GIT, deep=True))
    bench.reproducer._share = 100
    bench.reproducer.made("jq", "latest")
    assert bench.reproducer.begin(Request(GIT)) is running
    assert (await result(running)).outcome == "same"


@pytest_twisted.ensureDeferred
async def test_never_in_the_way(tmp_path: Path) -> None:
    """A build that somebody waits for takes the turn of a verification, which goes on later with
    what it has yet to build."""
    bench = make_bench(str(tmp_path), limits=BuildLimits(at_once=1))
    await bench.parts.builder.manifest(GIT)
    bench.rebuilder.gate = Deferred()
    progress = bench.reproducer.begin(Request(GIT))
    await until(lambda: bool(bench.rebuilder.built))
    pull = await bench.parts.builder.manifest(parse_image("jq", "latest"))
    assert pull.manifest
    bench.rebuilder.gate = None
    assert (await result(progress)).outcome == "same"
    assert len(bench.rebuilder.built) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("share", [0.0, 100.0])
async def test_the_sample(share: float, tmp_path: Path) -> None:
    """All images made are verified if that is the share of the sample, and none by default."""
    bench = make_bench(str(tmp_path), share)
    pull = await bench.parts.builder.manifest(GIT)
    bench.reproducer.made("git", "latest")
    for progress in list(bench.reproducer._progress.values()):
        await result(progress)
    kept = await bench.parts.cache.verified(pull.manifest.digest)
    assert (kept is not None) == bool(share)


@pytest_twisted.ensureDeferred
async def test_a_result_that_cannot_be_kept(bench: Bench) -> None:
    """A storage that fails takes no result from who asked for it."""
    await bench.parts.builder.manifest(GIT)
    told = []

    async def attest(made: Reproduction) -> None:
        told.append(made)
        raise StorageUnavailable("it is odd")

    bench.reproducer.attest = attest
    made = await bench.verify()
    assert told == [made]


@pytest_twisted.ensureDeferred
async def test_stopped(bench: Bench) -> None:
    """When the daemon stops, so does a verification, and it says so."""
    await bench.parts.builder.manifest(GIT)
    bench.rebuilder.gate = Deferred()
    progress = bench.reproducer.begin(Request(GIT))
    await until(lambda: bool(bench.rebuilder.built))
    await bench.reproducer.stop()
    assert isinstance(progress.error, ShuttingDown)
    with pytest.raises(ShuttingDown):
        bench.reproducer.begin(Request(GIT))
    assert bench.reproducer._progress == {}


@pytest_twisted.ensureDeferred
async def test_made_while_it_stops(tmp_path: Path) -> None:
    """An image that is made while the daemon stops is not verified, and that hurts nobody."""
    bench = make_bench(str(tmp_path), 100.0)
    await bench.parts.builder.manifest(GIT)
    await bench.reproducer.stop()
    bench.reproducer.made("git", "latest")
    assert bench.reproducer._progress == {}
