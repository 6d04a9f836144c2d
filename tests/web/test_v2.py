"""The contract of the registry API, row by row."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import psutil
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from nixery.http.answers import TABLE
from nixery.http.bounds import MOST
from nixery.interfaces import BlobFile, Location, Redirect, Stream, Value
from nixery.model.build_errors import BuildFailed
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.manifest import (
    DOCKER_INDEX_TYPE,
    INDEX_TYPE,
    INDEX_TYPES,
    MANIFEST_TYPE,
    make_index,
)
from nixery.model.package_errors import EvaluationFailed
from nixery.model.request_errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestUnknown,
    NameInvalid,
    TagInvalid,
)
from tests.history.histories import open_history
from tests.web.multipart import read_parts
from tests.web.server import MANIFEST, Collector, Locating, Server, as_it_is, reactor, serving

pytestmark = pytest.mark.usefixtures("both_ways")

DIGEST = str(MANIFEST.digest)
UNKNOWN = "sha256:" + "0" * 64


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/?ns=example.com"])
async def test_version(path: str) -> None:
    """``/v2/`` says that this is a registry."""
    async with serving() as server:
        answer = await server.ask(path)
        assert answer.status == 200
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("reference", ["latest", DIGEST, "latest?ns=docker.io"])
async def test_manifest(reference: str) -> None:
    """A manifest is served with its exact type, digest, length and entity tag."""
    async with serving() as server:
        answer = await server.ask(f"/v2/shell/git/manifests/{reference}")
        assert answer.status == 200
        assert answer.body == MANIFEST.content
        assert answer.headers["content-type"] == MANIFEST_TYPE
        assert answer.headers["docker-content-digest"] == DIGEST
        assert answer.headers["etag"] == f'"{DIGEST}"'
        assert int(answer.headers["content-length"]) == len(MANIFEST.content)
        assert "content-encoding" not in answer.headers


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("accept", ["text/plain", "application/vnd.docker.*+json", "*/*"])
async def test_accept_changes_nothing(accept: str) -> None:
    """A manifest by digest is the same bytes and type whatever the client accepts."""
    async with serving() as server:
        path = f"/v2/hello/manifests/{DIGEST}"
        answer = await server.ask(path, headers={"Accept": accept, "Accept-Encoding": "gzip"})
        assert (answer.status, answer.body) == (200, MANIFEST.content)
        assert answer.headers["content-type"] == MANIFEST_TYPE


INDEXES = {kind: make_index({"linux/amd64": MANIFEST}, {}, kind) for kind in INDEX_TYPES}
ACCEPTED = [
    ("", ""),
    ("*/*", ""),
    ("application/*, text/html", ""),
    (MANIFEST_TYPE, ""),
    (f"{MANIFEST_TYPE}, {INDEX_TYPE};q=0", ""),
    (INDEX_TYPE, INDEX_TYPE),
    (INDEX_TYPE.upper(), INDEX_TYPE),
    (f"text/html;level=1, {INDEX_TYPE} ; q=0.1", INDEX_TYPE),
    (f"{MANIFEST_TYPE},{DOCKER_INDEX_TYPE},*/*", DOCKER_INDEX_TYPE),
    (f"{DOCKER_INDEX_TYPE}, {INDEX_TYPE}", INDEX_TYPE),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("accept", "kind"), ACCEPTED)
async def test_indexes(accept: str, kind: str) -> None:
    """A client that names a type of index gets one, the others get the manifest of a platform,
    whatever others have asked for; a cache is told what it depends on."""
    async with serving() as server:
        server.builder.indexes = INDEXES
        for accepted, given in (("", ""), (accept, kind), (INDEX_TYPE, INDEX_TYPE)):
            headers = {"Accept": accepted} if accepted else {}
            manifest = INDEXES.get(given, MANIFEST)
            answer = await server.ask("/v2/hello/manifests/latest", headers=headers)
            assert (answer.status, answer.body) == (200, manifest.content)
            assert answer.headers["content-type"] == manifest.media_type
            assert answer.headers["docker-content-digest"] == str(manifest.digest)
            assert answer.headers["etag"] == f'"{manifest.digest}"'
            assert answer.headers["vary"] == "Accept"


@pytest_twisted.ensureDeferred
async def test_types_in_lines_of_their_own() -> None:
    """Go's clients send an ``Accept`` header for each type."""
    async with serving() as server:
        server.builder.indexes = INDEXES
        lines = "".join(f"Accept: {kind}\r\n" for kind in (MANIFEST_TYPE, INDEX_TYPE, "*/*"))
        head = f"GET /v2/hello/manifests/latest HTTP/1.1\r\nHost: x\r\n{lines}Connection: close"
        received = await server.send(head.encode() + b"\r\n\r\n")
        assert received.endswith(INDEXES[INDEX_TYPE].content)


@pytest_twisted.ensureDeferred
async def test_names_of_one_platform() -> None:
    """They have one manifest, whatever a client takes; so has a digest, whatever that is of."""
    async with serving() as server:
        server.builder.indexes = INDEXES
        answer = await server.ask("/v2/arm64/a/manifests/latest", headers={"Accept": INDEX_TYPE})
        assert answer.body == MANIFEST.content
        assert "vary" not in answer.headers
        for manifest in (MANIFEST, *INDEXES.values()):
            answer = await server.ask(f"/v2/a/manifests/{manifest.digest}")
            assert (answer.body, answer.headers["content-type"]) == (
                manifest.content,
                manifest.media_type,
            )


@pytest_twisted.ensureDeferred
async def test_head_is_get_without_a_body() -> None:
    """HEAD answers with the headers of GET, for manifests and blobs."""
    async with serving() as server:
        blob = await server.storage.write_blob(b"a blob")
        for path in (f"/v2/hello/manifests/{DIGEST}", f"/v2/hello/blobs/{blob}"):
            got, head = await server.ask(path), await server.ask(path, "HEAD")
            assert head.status == got.status == 200
            assert head.body == b""
            for name in ("content-type", "content-length", "docker-content-digest", "etag"):
                assert head.headers[name] == got.headers[name]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("condition", [f'"{DIGEST}"', f'W/"{DIGEST}"', "*", f'"x", "{DIGEST}"'])
async def test_not_modified(condition: str) -> None:
    """A client that has the manifest is told so, without sending it again."""
    async with serving() as server:
        headers = {"If-None-Match": condition}
        answer = await server.ask("/v2/hello/manifests/latest", headers=headers)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["docker-content-digest"] == DIGEST


@pytest_twisted.ensureDeferred
async def test_modified() -> None:
    """A client that has another manifest gets this one."""
    async with serving() as server:
        headers = {"If-None-Match": f'"{UNKNOWN}"'}
        assert (await server.ask("/v2/a/manifests/latest", headers=headers)).status == 200


REFUSED = [
    ("/v2/hello/manifests/" + UNKNOWN, 404, "MANIFEST_UNKNOWN"),
    ("/v2/hello/manifests/sha256:abc", 400, "DIGEST_INVALID"),
    ("/v2/hello/manifests/md5:" + "0" * 32, 400, "DIGEST_INVALID"),
    ("/v2/hello/manifests/-latest", 400, "TAG_INVALID"),
    ("/v2/hello/manifests/" + "x" * 129, 400, "TAG_INVALID"),
    ("/v2/hello/manifests/a%20b", 400, "TAG_INVALID"),
    ("/v2/hello/manifests/%2D%2Dupload-pack=x", 400, "TAG_INVALID"),
    ("/v2/Hello/manifests/latest", 400, "NAME_INVALID"),
    ("/v2/he..llo/manifests/latest", 400, "NAME_INVALID"),
    ("/v2/../hello/manifests/latest", 400, "NAME_INVALID"),
    ("/v2/%2e%2e/%2e%2e/etc/manifests/latest", 400, "NAME_INVALID"),
    ("/v2//hello/manifests/latest", 404, "NOT_FOUND"),
    ("/v2/hello%0a/manifests/latest", 400, "UNSUPPORTED"),
    ("/v2/hello%00/manifests/latest", 400, "UNSUPPORTED"),
    ("/v2/%ff%fe/manifests/latest", 400, "UNSUPPORTED"),
    ("/v2/" + "a/" * 130 + "b/manifests/latest", 400, "NAME_INVALID"),
    ("/v2/" + "a" * 3000 + "/manifests/latest", 400, "UNSUPPORTED"),
    ("/v2/" + "/".join(f"p{i}" for i in range(70)) + "/manifests/latest", 400, "NAME_INVALID"),
    ("/v2/arm64/manifests/latest", 400, "NAME_UNKNOWN"),
    ("/v2/git/shell/manifests/latest", 400, "NAME_UNKNOWN"),
    ("/v2/hello/manifests/sha256-" + "0" * 64, 404, "MANIFEST_UNKNOWN"),
    ("/v2/hello/blobs/" + UNKNOWN, 404, "BLOB_UNKNOWN"),
    ("/v2/hello/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
    ("/v2/HELLO/blobs/" + UNKNOWN, 400, "NAME_INVALID"),
    ("/v2/hello/referrers/nonsense", 400, "DIGEST_INVALID"),
    ("/v2/HELLO/tags/list", 400, "NAME_INVALID"),
    ("/v2/_catalog", 404, "NOT_FOUND"),
    ("/v2/hello/manifests/", 404, "NOT_FOUND"),
    ("/v2/hello/blobs/uploads/", 404, "NOT_FOUND"),
    ("/v2/hello", 404, "NOT_FOUND"),
    ("/nothing", 404, "NOT_FOUND"),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("path", "status", "code"), REFUSED)
async def test_refused(path: str, status: int, code: str) -> None:
    """What is outside the rules is refused in the protocol's form, and no build is asked for."""
    async with serving() as server:
        answer = await server.send(
            f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Content-Type: application/json" in head
        assert f'"code": "{code}"'.encode() in body
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FROB"])
@pytest.mark.parametrize(
    "path", ["/v2/", "/v2/hello/blobs/uploads/", f"/v2/hello/manifests/{DIGEST}", "/"]
)
async def test_read_only(method: str, path: str) -> None:
    """Every other method is refused with those that are allowed, and starts nothing."""
    async with serving() as server:
        answer = await server.ask(path, method)
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, HEAD"
        assert answer.error()["code"] == "UNSUPPORTED"
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nHost: a b<c>\r\nConnection: close\r\n\r\n",
        b"GET ftp://elsewhere/v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
async def test_improper_requests(head: bytes) -> None:
    """A request with no proper host or target is refused."""
    async with serving() as server:
        assert (await server.send(head)).startswith(b"HTTP/1.1 400 ")


@pytest_twisted.ensureDeferred
async def test_tls_handshakes_are_answered() -> None:
    """A client that tries TLS on the plain port is told at once that there is none."""
    async with serving() as server:
        answer = await server.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest_twisted.ensureDeferred
async def test_tags() -> None:
    """A name has the tag ``latest``, and pages of tags end."""
    async with serving() as server:
        answer = await server.ask("/v2/shell/git/tags/list")
        assert answer.status == 200
        assert answer.body == b'{"name": "shell/git", "tags": ["latest"]}'
        assert b'"tags": []' in (await server.ask("/v2/git/tags/list?n=5&last=latest")).body
        assert b'"tags": []' in (await server.ask("/v2/git/tags/list?n=0")).body


@pytest_twisted.ensureDeferred
async def test_referrers() -> None:
    """Nothing refers to an image: an empty index."""
    async with serving() as server:
        answer = await server.ask(f"/v2/hello/referrers/{DIGEST}?artifactType=x")
        assert answer.status == 200
        assert answer.headers["content-type"] == INDEX_TYPE
        assert json.loads(answer.body)["manifests"] == []


# --- blobs ---


@pytest.fixture
def file(tmp_path: Path) -> BlobFile:
    """A blob in a file of several pieces."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(range(256)) * (12 * MOST // 256) + b"the end")
    return as_it_is(path)


BOTH = pytest.mark.parametrize("wrapped", [False, True], ids=["by the kernel", "in pieces"])


async def get_blob(server: Server, **headers: str) -> "tuple[int, bytes, dict[str, str]]":
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await server.ask(f"/v2/hello/blobs/{DIGEST}", headers=names)
    return answer.status, answer.body, answer.headers


@pytest_twisted.ensureDeferred
@BOTH
async def test_blob_files(file: BlobFile, wrapped: bool) -> None:
    """A file is sent whole, and so are its parts."""
    content = Path(file.path).read_bytes()
    async with serving(storage=Locating(location=file), wrapped=wrapped) as server:
        status, body, headers = await get_blob(server)
        assert (status, body) == (200, content)
        assert headers["content-type"] == "application/octet-stream"
        assert headers["accept-ranges"] == "bytes"
        assert headers["docker-content-digest"] == DIGEST
        status, body, headers = await get_blob(server, Range="bytes=1000-2000999")
        assert (status, body) == (206, content[1000:2001000])
        assert headers["content-range"] == f"bytes 1000-2000999/{file.size}"
        assert int(headers["content-length"]) == len(body)


@pytest_twisted.ensureDeferred
async def test_unsatisfiable_ranges(file: BlobFile) -> None:
    """A range behind the end is refused with the blob's size."""
    async with serving(storage=Locating(location=file)) as server:
        for wanted in (f"bytes={file.size}-", "bytes=500-0"):
            status, body, headers = await get_blob(server, Range=wanted)
            assert status == 416
            assert headers["content-range"] == f"bytes */{file.size}"
            assert int(headers["content-length"]) == len(body)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "wanted",
    ["lines=1-2", "bytes=", "bytes=a-b", "bytes=0-1,x", "bytes=" + ",".join(["bytes=0-"] * 1000)],
)
async def test_ranges_that_are_ignored(file: BlobFile, wanted: str) -> None:
    """Another unit, no range, and too many ranges give the whole, once."""
    async with serving(storage=Locating(location=file)) as server:
        status, body, _ = await get_blob(server, Range=wanted)
        assert (status, len(body)) == (200, file.size)


SEVERAL = f"bytes={MOST}-{3 * MOST}, 0-0, {MOST + 5}-{MOST + 9}, 5-1,-7"
RANGES = [(0, 1), (MOST, 2 * MOST + 1), (12 * MOST, 7)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["file", "wrapped", "stream", "value"])
async def test_several_ranges(file: BlobFile, kind: str) -> None:
    """Several ranges are sent as parts of one answer, each byte once, wherever the blob is."""
    content = Path(file.path).read_bytes()

    async def copy(start: int, length: int, consumer: IConsumer) -> None:
        consumer.write(content[start : start + length])

    locations: dict[str, Location] = {
        "file": file,
        "wrapped": file,
        "stream": Stream(file.size, copy),
        "value": Value(content),
    }
    storage = Locating(location=locations[kind])
    async with serving(storage=storage, wrapped=kind == "wrapped") as server:
        status, body, headers = await get_blob(server, Range=SEVERAL)
        assert (status, len(body)) == (206, int(headers["content-length"]))
        assert "content-range" not in headers
        assert headers["docker-content-digest"] == DIGEST
        parts = read_parts(headers["content-type"], body)
        expected = [(at, at + n, file.size, content[at : at + n]) for at, n in RANGES]
        assert parts == expected
        answer = await server.ask(f"/v2/hello/blobs/{DIGEST}", "HEAD", {"Range": SEVERAL})
        assert (answer.status, answer.headers["content-length"]) == (206, str(len(body)))
        status, body, headers = await get_blob(server, Range="bytes=0-5,3-9")
        assert (status, body) == (206, content[:10])
        assert headers["content-range"] == f"bytes 0-9/{file.size}"
        for missing in (f"bytes={file.size}-,-0", "bytes=5-1,-0"):
            assert (await get_blob(server, Range=missing))[0] == 416


@pytest_twisted.ensureDeferred
async def test_if_range(file: BlobFile) -> None:
    """A range of another blob than the client has is the whole."""
    async with serving(storage=Locating(location=file)) as server:
        matching = {"Range": "bytes=0-0", "If_Range": f'"{DIGEST}"'}
        assert (await get_blob(server, **matching))[0] == 206
        assert (await get_blob(server, **{**matching, "If_Range": '"other"'}))[0] == 200


@pytest_twisted.ensureDeferred
async def test_blob_elsewhere() -> None:
    """A blob that clients load from another place is a redirect there."""
    location = Redirect("https://example.com/blob?signature=1", 1234)
    async with serving(storage=Locating(location=location)) as server:
        status, body, headers = await get_blob(server)
        assert (status, body) == (307, b"")
        assert headers["location"] == location.url


@pytest_twisted.ensureDeferred
async def test_a_file_that_was_replaced(file: BlobFile) -> None:
    """A file that is not of the size that was verified is not served."""
    Path(file.path).write_bytes(b"short")
    async with serving(storage=Locating(location=file)) as server:
        assert (await get_blob(server))[0] == 404


@pytest_twisted.ensureDeferred
@BOTH
async def test_a_client_that_leaves_a_transfer(file: BlobFile, wrapped: bool) -> None:
    """A client that closes its connection in the middle of a blob disturbs nobody."""
    async with serving(storage=Locating(location=file), wrapped=wrapped) as server:
        request = f"GET /v2/a/blobs/{DIGEST} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        for _ in range(5):
            await _read_a_little(server, request)
        assert (await get_blob(server))[0] == 200


async def _read_a_little(server: Server, request: bytes) -> None:
    first: Deferred[None] = Deferred()

    class Leaver(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.abortConnection()  # type: ignore[union-attr]
            if not first.called:
                first.callback(None)

    leaver = await server.connect(Leaver())
    leaver.transport.write(request)  # type: ignore[union-attr]
    await first


SLOW_CLIENTS = 4
PIECES = ",".join(f"{at}-{at + MOST - 1}" for at in range(0, 128 * MOST, 2 * MOST))


@pytest_twisted.ensureDeferred
@BOTH
@pytest.mark.parametrize("wanted", ["0-", PIECES], ids=["one range", "many ranges"])
async def test_slow_clients_cost_little_memory(tmp_path: Path, wanted: str, wrapped: bool) -> None:
    """Clients that ask for a large blob, or many pieces of it, and do not read cost some pieces
    of it, not all."""
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 400_000_000)
    async with serving(storage=Locating(location=as_it_is(path)), wrapped=wrapped) as server:
        before = psutil.Process().memory_info().rss
        head = f"GET /v2/a/blobs/{DIGEST} HTTP/1.1\r\nHost: h\r\nRange: bytes={wanted}\r\n\r\n"
        request = head.encode("ascii")
        clients = [await server.connect(Idler()) for _ in range(SLOW_CLIENTS)]
        for client in clients:
            client.transport.write(request)  # type: ignore[union-attr]
        for client in clients:
            await client.began
        await deferLater(reactor, 1, lambda: None)
        grown = psutil.Process().memory_info().rss - before
        for client in clients:
            client.transport.abortConnection()  # type: ignore[union-attr]
        # A piece in the connection's buffer, one being read, and a copy of each on the way.
        assert grown < SLOW_CLIENTS * 6 * MOST


def cut_short(path: str) -> None:
    os.truncate(path, MOST)


def flip_last(path: str) -> None:
    """Without a trace in the time of the last change."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip_and_delete(path: str) -> None:
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"X")
    os.unlink(path)


@pytest_twisted.ensureDeferred
@BOTH
@pytest.mark.parametrize("damage", [cut_short, flip_last, flip_and_delete])
async def test_a_file_that_is_damaged_while_it_is_sent(
    file: BlobFile, damage: Callable[[str], None], wrapped: bool
) -> None:
    """A client whose blob is cut or altered in the middle sees the connection end, and no byte
    that is not the blob's, but for those that are on their way when the file is cut: the kernel
    has no copy of them."""
    async with serving(storage=Locating(location=file), wrapped=wrapped) as server:
        reader = await server.connect(Damaging(file.path, damage))
        request = f"GET /v2/a/blobs/{DIGEST} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
        reader.transport.write(request)  # type: ignore[union-attr]
        head, _, body = (await reader.closed).partition(b"\r\n\r\n")
        assert f"Content-Length: {file.size}".encode() in head
        assert 0 < len(body) < file.size
        if damage is cut_short and not wrapped:
            body = body[:MOST]
        assert body == (bytes(range(256)) * (len(body) // 256 + 1))[: len(body)]


@pytest_twisted.ensureDeferred
@BOTH
async def test_a_file_that_is_deleted_while_it_is_sent(file: BlobFile, wrapped: bool) -> None:
    """A blob that is deleted or replaced in the middle is sent to its end."""
    content = Path(file.path).read_bytes()
    async with serving(storage=Locating(location=file), wrapped=wrapped) as server:
        reader = await server.connect(Damaging(file.path, os.unlink))
        request = f"GET /v2/a/blobs/{DIGEST} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        reader.transport.write(request.encode())  # type: ignore[union-attr]
        assert (await reader.closed).partition(b"\r\n\r\n")[2] == content


class Damaging(Collector):
    """Does something to the file as soon as the first bytes of it arrive."""

    def __init__(self, path: str, damage: Callable[[str], None]) -> None:
        super().__init__()
        self._path = path
        self._damage = damage

    def dataReceived(self, data: bytes) -> None:
        if not self.received:
            self._damage(self._path)
        super().dataReceived(data)


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_replaced_before_it_is_sent(file: BlobFile) -> None:
    """A file that was altered since it was verified is not sent; one that took its place is."""

    class Mending(Locating):
        mended: BlobFile | None = None

        async def locate(self, digest: Digest) -> Location:  # type: ignore[override]
            location, self.location = self.location, self.mended
            if location is None:
                raise BlobUnknown(str(digest))
            assert not isinstance(location, NixeryError)
            return location

    async with serving(storage=Mending(location=attrs.evolve(file, modified=1))) as server:
        assert (await get_blob(server))[0] == 404
    storage = Mending(location=attrs.evolve(file, modified=1))
    storage.mended = file
    async with serving(storage=storage) as server:
        assert (await get_blob(server))[:2] == (200, Path(file.path).read_bytes())


class Idler(Protocol):
    """Takes the first bytes, and then no more."""

    def __init__(self) -> None:
        self.began: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]
        if not self.began.called:
            self.began.callback(None)


# --- errors ---


def example(kind: type[NixeryError]) -> NixeryError:
    """An error of a class, with something in every field."""
    values = {
        "size": 5,
        "limit": 4,
        "seconds": 5,
        "nearest": ["near"],
        "meant": [],
        "matches": ["a", "b"],
        "log": ["end"],
        "silent": False,
    }
    names = [a.name for a in attrs.fields(kind)]  # type: ignore[arg-type]
    fields = {name: values.get(name, f"the-{name}") for name in names}
    return kind(**fields)


def subclasses(kind: type[NixeryError]) -> Iterator[type[NixeryError]]:
    """All errors of the package that are of some kind."""
    for each in kind.__subclasses__():
        if each.__module__.startswith("nixery."):
            yield each
        yield from subclasses(each)


def test_every_error_has_an_answer() -> None:
    """The table knows every error that there is."""
    assert set(TABLE) == set(subclasses(NixeryError))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", list(TABLE), ids=lambda kind: kind.__name__)
async def test_errors(kind: type[NixeryError]) -> None:
    """Every error is answered by the table, with its whole message and a cause in the reason."""
    async with serving() as server:
        server.builder.error = error = example(kind)
        answer = await server.ask("/v2/hello/manifests/latest")
        row = TABLE[kind]
        assert answer.status == row.status
        assert answer.error()["code"] == row.code
        assert answer.error()["detail"]["code"] == (row.precise or row.code)
        assert answer.error()["message"] == str(error)
        assert answer.reason == error.cause
        assert (answer.status in (429, 503)) == ("retry-after" in answer.headers)


# https://github.com/containers/common/blob/main/pkg/retry/retry.go: all else is asked again.
ASKED_ONCE = ("DENIED", "UNAUTHORIZED", "NAME_UNKNOWN", "MANIFEST_UNKNOWN")
# A name or tag outside the grammar is refused by the client itself.
NEVER_SENT = (NameInvalid, TagInvalid, DigestInvalid)


@pytest.mark.parametrize("kind", list(TABLE), ids=lambda kind: kind.__name__)
def test_podman_asks_once(kind: type[NixeryError]) -> None:
    """What would fail again in the same way has a code at which podman does not try again."""
    row = TABLE[kind]
    if row.status == 400 and kind not in NEVER_SENT:
        assert row.code in ASKED_ONCE


CONTAINERD = "containerd/1.6.20~ds1"
READS_THE_STATUS_LINE = [
    CONTAINERD,
    "docker/29.0.0 go/go1.25 containerd-client/2.1.5+unknown storage-driver/overlayfs",
    "buildkit/v0.25",
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", list(TABLE), ids=lambda kind: kind.__name__)
async def test_who_reads_no_404(kind: type[NixeryError]) -> None:
    """Clients that print no more of a 404 than that get a 400 where the cause is of use, and the
    404 that the protocol has for it where it is not."""
    wanted = TABLE[kind].status
    if kind not in (ManifestUnknown, BlobUnknown) and wanted == 404:
        wanted = 400
    async with serving() as server:
        server.builder.error = example(kind)
        for agent in READS_THE_STATUS_LINE:
            headers = {"User-Agent": agent}
            answer = await server.ask("/v2/hello/manifests/latest", headers=headers)
            assert (answer.status, answer.error()["code"]) == (wanted, TABLE[kind].code)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("cause", "begin"), [("‘x’\nand…", "x-1 failed to build: 'x' and..."), ("y " * 999, "x-1 f")]
)
async def test_long_causes(tmp_path: Path, cause: str, begin: str) -> None:
    """A reason phrase ends with the whole address, however long the cause is; quotes are ASCII."""
    async with serving(history=await open_history(tmp_path)) as server:
        server.builder.build = "0123456789abcdef"
        server.builder.error = BuildFailed("x-1", cause, ["the log"])
        answer = await server.ask("/v2/hello/manifests/latest")
        address = f"see http://127.0.0.1:{server.port}/builds/0123456789abcdef"
        assert answer.reason.endswith(f"; {address}")
        assert answer.reason.startswith(begin)
        assert len(answer.reason) <= 400
        assert "the log" not in answer.reason
        assert f"{address}; the end of its log:\nthe log" in answer.error()["message"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "kind", [kind for kind in TABLE if kind._of_machine], ids=lambda kind: kind.__name__
)
async def test_no_path_of_this_machine(kind: type[NixeryError]) -> None:
    """No part of an answer says where files lie; the log does."""
    async with serving() as server:
        server.builder.error = error = example(kind)
        for name in kind._of_machine:
            setattr(error, name, "no file '/srv/data/x'")
        with capturedLogs() as captured:
            answer = await server.ask("/v2/hello/manifests/latest")
            await server.until(lambda: any("milliseconds" in each for each in captured))
        assert b"srv" not in answer.body
        assert "srv" not in answer.reason + str(answer.headers)
        assert "'.../x'" in answer.reason
        assert any("/srv/data/x" in (formatEvent(each) or "") for each in captured)


@pytest_twisted.ensureDeferred
async def test_hostile_messages() -> None:
    """What a package set says splits no header and reaches no terminal as a command."""
    async with serving() as server:
        server.builder.error = EvaluationFailed("a\r\nX-Evil: 1\r\n\r\n\x1b[31mé\n")
        answer = await server.ask("/v2/hello/manifests/latest")
        assert answer.status == 400
        assert "x-evil" not in answer.headers
        assert "\x1b" not in answer.reason
        assert "\x1b" not in answer.error()["message"]


@pytest_twisted.ensureDeferred
async def test_surprises() -> None:
    """An error that nobody thought of is a 500 that reveals nothing; its traceback is logged with
    the ID that the answer has, and not with what the client sent besides."""
    async with serving() as server:
        server.builder.error = RuntimeError("secret")
        with capturedLogs() as captured:
            answer = await server.ask("/v2/hello/manifests/latest?token=password")
        (fault,) = [each for each in captured if "log_failure" in each]
        assert formatEvent(fault).startswith(f"{answer.headers['x-request-id']}: ")
        assert "password" not in formatEvent(fault)
        assert (answer.status, answer.error()["code"]) == (500, "UNKNOWN")
        assert b"secret" not in answer.body


@pytest_twisted.ensureDeferred
async def test_start_page() -> None:
    """The address in a browser shows the first pull to type."""
    async with serving() as server:
        answer = await server.ask("/")
        assert answer.status == 200
        assert f"docker pull 127.0.0.1:{server.port}/shell/git/htop".encode() in answer.body


@pytest_twisted.ensureDeferred
async def test_damaged_blobs() -> None:
    """A blob that turns out to be damaged is not found."""
    storage = Locating(location=BlobUnknown(str(Digest.of(b""))))
    async with serving(storage=storage) as server:
        assert (await get_blob(server))[0] == 404
