# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Images that clients are loading, and blobs that a proxy is told to send."""

import errno
from ipaddress import ip_network
from pathlib import Path
from typing import NoReturn

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from nixery.builds.keep_alive import AGAIN
from nixery.http.bounds import LEAST
from nixery.http.known_answers import LARGEST
from nixery.http.request import NOBODY, Trusted
from nixery.interfaces import Value
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, Descriptor, Manifest, make_manifest
from nixery.model.request_errors import BlobUnknown
from nixery.storage.memory import MemoryStorage
from nixery.web.blobs import ImagesInUse
from tests.web.server import MANIFEST, Locating, as_it_is, serving

pytestmark = pytest.mark.usefixtures("both_ways")


def manifest(*blobs: bytes) -> Manifest:
    config, *others = [Descriptor(CONFIG_TYPE, Digest.of(blob), len(blob)) for blob in blobs]
    content = make_manifest(config, [])
    return Manifest(content.content, content.media_type, content.digest, (config, *others))


def digests(made: Manifest) -> tuple[Digest, ...]:
    return (made.digest, *(blob.digest for blob in made.blobs))


def test_the_image_that_is_loaded() -> None:
    """A blob that several images have is taken for that image's under whose name it is asked
    for."""
    clock, storage = Clock(), MemoryStorage()
    pulls = ImagesInUse(clock, storage)
    first, second = manifest(b"base", b"first"), manifest(b"base", b"second")
    pulls.served("one", digests(first))
    pulls.served("two", digests(second))
    for name, expected in (("one", digests(first)), ("two", digests(second)), ("three", ())):
        storage.used.clear()
        with pulls.loading(name, Digest.of(b"base")):
            assert set(storage.used) == set(expected)


def test_the_platforms_of_an_index() -> None:
    """Clients that load the images of different platforms by one name keep all of its index, until
    something else is served for the name."""
    storage = MemoryStorage()
    pulls = ImagesInUse(Clock(), storage)
    one, other = manifest(b"one"), manifest(b"other")
    index = (Digest.of(b"index"), *digests(one), *digests(other))
    for served in (index, digests(one), digests(other)):
        pulls.served("name", served)
        assert pulls.image("name") == index
    pulls.served("name", digests(manifest(b"newer")))
    assert pulls.image("name") == digests(manifest(b"newer"))


def test_blobs_of_others() -> None:
    """Whoever asks under an image's name for what is not of that image keeps nothing."""
    storage = MemoryStorage()
    pulls = ImagesInUse(Clock(), storage)
    pulls.served("one", digests(manifest(b"base")))
    with pulls.loading("one", Digest.of(b"of another")):
        assert storage.used == []


def test_slow_clients() -> None:
    """As long as a blob is being sent, the others of its image are of use; not after that."""
    clock, storage = Clock(), MemoryStorage()
    pulls = ImagesInUse(clock, storage)
    image = manifest(b"large", b"small")
    pulls.served("x", digests(image))
    with pulls.loading("x", Digest.of(b"large")):
        for _ in range(100):
            storage.used.clear()
            clock.advance(AGAIN)
            assert set(storage.used) == set(digests(image))
    assert not clock.getDelayedCalls()


def test_names_are_bounded() -> None:
    """Names that were asked for longest ago are forgotten."""
    storage = MemoryStorage()
    pulls = ImagesInUse(Clock(), storage, remembered=2)
    image = manifest(b"base")
    for name in ("a", "b", "a", "c"):
        pulls.served(name, digests(image))
    with pulls.loading("b", Digest.of(b"base")):
        assert storage.used == []
    with pulls.loading("a", Digest.of(b"base")):
        assert set(storage.used) == set(digests(image))


@pytest_twisted.ensureDeferred
async def test_over_http() -> None:
    """Who has a manifest and asks for one of its blobs keeps all of the image, whether the
    manifest was asked for by tag or by digest."""
    for reference in ("latest", str(MANIFEST.digest)):
        async with serving() as server:
            storage = server.storage
            assert isinstance(storage, MemoryStorage)
            config = await storage.write_blob(b"config")
            await server.ask(f"/v2/x/blobs/{config}")
            assert storage.used == []
            await server.ask(f"/v2/x/manifests/{reference}")
            with server.changing():
                pass
            answer = await server.ask(f"/v2/x/blobs/{config}")
            assert answer.body == b"config"
            assert set(storage.used) == set(digests(MANIFEST))


BLOB = f"/v2/x/blobs/{MANIFEST.digest}"
PROXY = Trusted([ip_network("127.0.0.1")])


@pytest_twisted.ensureDeferred
async def test_blobs_that_a_proxy_sends(tmp_path: Path) -> None:
    """A proxy that is trusted is told where a file is, with all that a client wants to know of the
    blob, whatever part of it that wants; HEAD is answered as ever."""
    path = tmp_path / "0123abcd"
    path.write_bytes(b"content" * 10_000)
    storage = Locating(as_it_is(path))
    async with serving(storage=storage, trusted=PROXY, accel="/_blobs/") as server:
        for wanted in ({}, {"Range": "bytes=5-9"}, {"Range": "bytes=999999-"}):
            answer = await server.ask(BLOB, headers=wanted)
            assert (answer.status, answer.body) == (200, b"")
            assert answer.headers["x-accel-redirect"] == "/_blobs/0123abcd"
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["docker-content-digest"] == str(MANIFEST.digest)
            assert answer.headers["etag"] == f'"{MANIFEST.digest}"'
        head = await server.ask(BLOB, "HEAD")
        assert head.headers["content-length"] == "70000"
        assert "x-accel-redirect" not in head.headers
        with server.changing():
            storage.location = BlobUnknown("x")
        assert (await server.ask(BLOB)).status == 404


@pytest_twisted.ensureDeferred
async def test_blobs_that_no_proxy_sends(tmp_path: Path) -> None:
    """Who is no proxy that is trusted is sent blobs, and told nothing else; so is everybody where
    no location is set, and what is in memory is sent in any case."""
    path = tmp_path / "blob"
    path.write_bytes(b"content" * 10_000)
    file, memory = Locating(as_it_is(path)), Locating(Value(b"content" * 10_000))
    for storage, trusted, accel in (
        (file, NOBODY, "/_blobs/"),
        (file, PROXY, None),
        (memory, PROXY, "/_blobs/"),
    ):
        async with serving(storage=storage, trusted=trusted, accel=accel) as server:
            answer = await server.ask(BLOB, headers={"X-Forwarded-For": "127.0.0.1"})
            assert (answer.status, answer.body) == (200, b"content" * 10_000)
            assert "x-accel-redirect" not in answer.headers


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("size", "is_kept"),
    [(0, True), (5, True), (9_000, True), (LARGEST, True), (LARGEST + 1, False), (10**6, False)],
)
async def test_files_that_are_kept(tmp_path: Path, size: int, is_kept: bool) -> None:
    """A small blob that is a file is kept, however it was sent, and given until it is altered."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(size))
    storage = Locating(as_it_is(path))
    async with serving(storage=storage) as server:
        for _ in range(3):
            assert (await server.ask(BLOB)).body == bytes(size)
        assert (server.site.known.given > 0) == is_kept
        path.write_bytes(bytes(size) + b"x")
        with server.changing():
            storage.location = as_it_is(path)
        assert (await server.ask(BLOB)).body == bytes(size) + b"x"


@pytest_twisted.ensureDeferred
async def test_faults_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be opened for a moment, as while too many are open, can be had after it."""
    path = tmp_path / "blob"
    path.write_bytes(b"content")

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, "Too many open files")

    async with serving(storage=Locating(as_it_is(path))) as server:
        with monkeypatch.context() as patch:
            patch.setattr("nixery.web.blobs.FileIO", fail)
            for _ in range(2):
                assert (await server.ask(BLOB)).status == 503
        assert server.site.known.given == 0
        assert (await server.ask(BLOB)).body == b"content"


@pytest_twisted.ensureDeferred
async def test_files_for_which_there_is_no_room(tmp_path: Path) -> None:
    """Where clients have left much unread, a file is sent in small pieces, and not kept."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(LARGEST))
    async with serving(storage=Locating(as_it_is(path))) as server:
        untaken, limits = server.bounds.untaken, server.bounds.limits
        with untaken.piece("127.0.0.1", limits.client_unread):
            assert untaken.room("127.0.0.1") == LEAST
            for _ in range(3):
                assert (await server.ask(BLOB)).body == bytes(LARGEST)
            assert server.site.known.given == 0
