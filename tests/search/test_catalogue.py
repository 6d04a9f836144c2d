"""The package search's index: made in the background, kept, brought up to date."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from nixery.interfaces import ICatalogue, SearchResult
from nixery.model.package_errors import EvaluationFailed
from nixery.model.package_set import Package
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import Configuration, FolderContents, LocalFolder, PinnedSource
from nixery.model.suggestions import Suggestion
from nixery.search.catalogue import FIRST_WAIT, LOOK_AGAIN, PROGRAMS_AGAIN, Catalogue
from nixery.search.index_file import KeptIndex, index_key, read_index, write_index
from nixery.search.lister import PackageListing
from nixery.search.ranking import Index
from tests.builds.fakes import FakeResolver

HELLO = Package(("hello",), image="hello", name="hello-1")


class InlinePool:
    """Does at once what threads would do."""

    def callInThreadWithCallback(self, done: Any, work: Any, *arguments: Any) -> None:
        try:
            result = work(*arguments)
        except Exception as error:
            done(False, error)
        else:
            done(True, result)


class InlineReactor(Clock):
    """A clock that tests advance, and threads that are none."""

    def getThreadPool(self) -> ThreadPool:
        return cast(ThreadPool, InlinePool())

    def callFromThread(self, work: Any, *arguments: Any) -> None:
        work(*arguments)


@attrs.define
class FakeLister:
    """Lists what tests say."""

    listed: Sequence[Package] = (HELLO,)
    there: dict[str, tuple[str, ...]] = attrs.Factory(dict)
    gate: Deferred[None] | None = None
    error: Exception | None = None
    asked: list[str] = attrs.Factory(list)

    async def packages(self, pinned: PinnedSource) -> PackageListing:
        self.asked.append(pinned.revision)
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        return PackageListing(self._index(), ("broken",), True)

    async def programs(self, index: bytes) -> bytes | None:
        made = self._index()
        return None if made == index else made

    def _index(self) -> bytes:
        listed = [attrs.evolve(p, programs=self.there.get(p.name, ())) for p in self.listed]
        return Index.of(listed).dump()


class Place:
    """A catalogue and the fakes that it is made of."""

    def __init__(self, folder: Path) -> None:
        self.reactor = InlineReactor()
        self.resolver = FakeResolver()
        self.lister = FakeLister()
        self.folder = str(folder / "search")
        self.restart()

    def restart(self) -> None:
        self.catalogue = Catalogue(
            cast(Any, self.reactor), self.resolver, cast(Any, self.lister), self.folder
        )

    async def found(self, query: str) -> list[str]:
        return [p.attribute for p in (await self.catalogue.search(query, 10)).packages]

    def later(self, seconds: float) -> None:
        self.reactor.advance(seconds + 1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest_twisted.ensureDeferred
async def test_search(place: Place) -> None:
    """Search results say which revision they are of."""
    assert verifyObject(ICatalogue, place.catalogue)
    found = await place.catalogue.search("hello", 10)
    assert found == SearchResult(
        ready=True, packages=[HELLO], source="folder:set", revision="1", count=1, whole=True
    )


@pytest_twisted.ensureDeferred
async def test_made_when_asked_for(place: Place) -> None:
    """Nothing is listed before the first search, and twice by none; no search waits."""
    assert place.lister.asked == []
    place.lister.gate = Deferred()
    assert not (await place.catalogue.search("hello", 10)).ready
    assert not (await place.catalogue.search("hello", 10)).ready
    place.lister.gate.callback(None)
    assert await place.found("hello") == ["hello"]
    assert place.lister.asked == ["1"]


@pytest_twisted.ensureDeferred
async def test_suggestions(place: Place) -> None:
    """A name that no package has gets no hint while there is no index, and has one made; it waits
    for nothing."""
    place.lister.listed = [attrs.evolve(HELLO, program="hi")]
    place.lister.gate = Deferred()
    assert list(place.catalogue.suggest("hi")) == []
    assert list(place.catalogue.suggest("hi")) == []
    assert place.lister.asked == ["1"]
    place.lister.gate.callback(None)
    assert place.catalogue.suggest("hi") == [Suggestion("hello", "hi")]
    assert list(place.catalogue.suggest("hello")) == []


@pytest_twisted.ensureDeferred
async def test_one_package(place: Place) -> None:
    """A package is found by its attribute path or its name in images; there is none before the
    index is there, which is made then."""
    place.lister.listed = [HELLO, Package(("pyPackages", "Six"), image="pypackages.six")]
    place.lister.gate = Deferred()
    assert place.catalogue.package("hello") is None
    place.lister.gate.callback(None)
    assert place.catalogue.package("hello") == HELLO
    for name in ("pyPackages.Six", "pypackages.six"):
        assert place.catalogue.package(name) == place.lister.listed[1]
    for name in ("PYPACKAGES.SIX", "six", "hello-1", ""):
        assert place.catalogue.package(name) is None


@pytest_twisted.ensureDeferred
async def test_new_revision(place: Place) -> None:
    """The old index serves until that of the new revision is ready."""
    await place.found("hello")
    place.resolver.revision = "2"
    place.lister.listed = [Package(("new",), name="new-1")]
    place.lister.gate = Deferred()
    assert (await place.catalogue.search("hello", 10)).revision == "1"
    assert place.lister.asked == ["1"]
    place.later(LOOK_AGAIN)
    assert (await place.catalogue.search("hello", 10)).revision == "1"
    assert place.lister.asked == ["1", "2"]
    place.lister.gate.callback(None)
    assert (await place.catalogue.search("new", 10)).revision == "2"
    assert await place.found("hello") == []


@pytest_twisted.ensureDeferred
async def test_restart(place: Place) -> None:
    """A restarted daemon has the index at once, and lists nothing again that has not changed."""
    await place.found("hello")
    place.restart()
    assert await place.found("hello") == ["hello"]
    assert place.lister.asked == ["1"]


@pytest_twisted.ensureDeferred
async def test_restart_without_source(place: Place) -> None:
    """After a restart the kept index serves even while the source can't be asked; that is told."""
    await place.found("hello")
    place.restart()
    place.resolver.error = SourceUnavailable("x", "no network")
    found = await place.catalogue.search("hello", 10)
    assert found.ready
    assert found.packages == [HELLO]
    assert "no network" in found.fault


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("content", [b"", b"odd", b"\x1f\x8b", None])
async def test_damaged_shelf(place: Place, content: bytes | None) -> None:
    """A kept index that is damaged is made anew."""
    await place.found("hello")
    [file] = Path(place.folder).iterdir()
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    place.restart()
    assert await place.found("hello") == ["hello"]
    assert place.lister.asked == ["1", "1"]


@pytest_twisted.ensureDeferred
async def test_no_index_on_the_shelf(place: Place) -> None:
    """A kept file that is whole but holds no index is made anew too."""
    await place.found("hello")
    kept = read_index(place.folder)
    assert kept is not None
    write_index(place.folder, attrs.evolve(kept, index=b"something else"))
    place.restart()
    assert await place.found("hello") == ["hello"]
    assert place.lister.asked == ["1", "1"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", [EvaluationFailed("a reason"), RuntimeError("a fault")])
async def test_failure(place: Place, error: Exception) -> None:
    """A failure is told, and tried again after waits that grow, and forgotten at last."""
    place.lister.error = error
    fault = (await place.catalogue.search("x", 10)).fault
    assert fault
    waits = []
    for wait in (FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT):
        place.reactor.advance(wait - 1)
        await place.catalogue.search("x", 10)
        waits.append(len(place.lister.asked))
        place.reactor.advance(1)
        await place.catalogue.search("x", 10)
    assert waits == [1, 2, 3]
    place.lister.error = None
    place.later(8 * FIRST_WAIT)
    found = await place.catalogue.search("hello", 10)
    assert (found.ready, found.fault) == (True, "")


@pytest_twisted.ensureDeferred
async def test_edited_meanwhile(place: Place) -> None:
    """A listing of a folder that was edited meanwhile is not used."""
    place.resolver.edited = True
    assert not (await place.catalogue.search("hello", 10)).ready


@pytest_twisted.ensureDeferred
async def test_programs(place: Place) -> None:
    """Programs that came to the store find their package after a while, without an evaluation."""
    place.lister.there = {"hello-1": ("hi",)}
    assert await place.found("hi") == ["hello"]
    place.lister.there = {"hello-1": ("hey",)}
    place.later(PROGRAMS_AGAIN)
    assert await place.found("hey") == ["hello"]
    assert await place.found("hi") == []
    place.later(PROGRAMS_AGAIN)
    assert await place.found("hey") == ["hello"]
    assert place.lister.asked == ["1"]


@pytest_twisted.ensureDeferred
async def test_stop(place: Place) -> None:
    """Stopping ends what is being made; searches go on with what there is."""
    place.lister.gate = Deferred(lambda gate: stopped.append(gate))
    stopped: list[Any] = []
    await place.catalogue.search("x", 10)
    await place.catalogue.stop()
    assert len(stopped) == 1
    place.later(FIRST_WAIT * 100)
    assert not (await place.catalogue.search("x", 10)).ready


@pytest_twisted.ensureDeferred
async def test_unwritable(place: Place, tmp_path: Path) -> None:
    """An index that can't be kept serves nevertheless."""
    (tmp_path / "search").write_text("in the way")
    assert await place.found("hello") == ["hello"]


def test_shelf(tmp_path: Path) -> None:
    """A kept index is read again; leftovers of processes that were killed are removed, and no
    other files."""
    folder = tmp_path / "a" / "b"
    assert read_index(str(folder)) is None
    kept_index = KeptIndex("key", "source", "revision", b"an index", ("x",), False)
    write_index(str(folder), kept_index)
    assert read_index(str(folder)) == kept_index
    for name in (f"index.gz.{'0' * 32}.new", "tmpabc_1234", "tmp.txt", "notes.txt"):
        (folder / name).touch()
    write_index(str(folder), attrs.evolve(kept_index, index=b""))
    assert {path.name for path in folder.iterdir()} == {"index.gz", "tmp.txt", "notes.txt"}


def test_keys() -> None:
    """The key of an index depends on all that its listing depends on."""
    pinned = PinnedSource(LocalFolder("/a"), FolderContents("/a", "1"))
    others = [
        attrs.evolve(pinned, pin=FolderContents("/a", "2")),
        attrs.evolve(pinned, configuration=Configuration()),
        attrs.evolve(pinned, configuration=Configuration(config='{"a":1}')),
    ]
    assert len({index_key(p) for p in (pinned, *others)}) == 4
    assert index_key(pinned) == index_key(attrs.evolve(pinned, stale=True))
