"""Images for operators."""

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.access.api_token import OperatorAccess
from nixery.access.guard import Guard
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.builds.removal import Removals
from nixery.model.contents import Contents, pack_contents
from nixery.model.image import parse_image
from nixery.model.manifest import Manifest, make_index
from nixery.model.request_errors import UnknownTag
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN, Auth
from nixery.web.images import ImagesApi
from tests.attest.samples import USUAL
from tests.builds.test_known_images import ORIGIN, stored
from tests.web.server import Answer, FakeBuilder, Server, serving

reactor: Any = _reactor

TOKEN = "a token of the operator"
OWN = {"Authorization": f"Bearer {TOKEN.replace(' ', '-')}"}
RULES = Rules(Patterns(deny=("htop",)), users={"ada": Patterns(allow=("git",))})


@attrs.define
class Operated:
    """A registry, and what is behind its API."""

    server: Server
    storage: MemoryStorage
    cache: Cache
    images: KnownImages

    async def make(self, name: str, tag: str = "latest", contents: str = "") -> Manifest:
        manifest = await stored(self.storage, name, name.encode())
        image = parse_image(name, tag)
        await self.cache.remember_manifest(manifest.digest.hex, manifest, ORIGIN, contents, image)
        return manifest

    async def get(self, path: str = "/api/images") -> Any:
        answer = await self.server.ask(path, headers=OWN)
        assert answer.status == 200
        return json.loads(answer.body)

    async def warm(self, **body: object) -> Answer:
        return await self.server.post("/api/images", json.dumps(body).encode(), OWN)

    async def remove(self, reference: str) -> Answer:
        return await self.server.ask(f"/api/images/{reference}", "DELETE", OWN)


@asynccontextmanager
async def operated(folder: Path, auth: Auth = OPEN, grace: float = 0.0) -> AsyncIterator[Operated]:
    storage, builder = MemoryStorage(), FakeBuilder()
    cache = Cache(storage)
    images = KnownImages(reactor, storage, cache, str(folder))
    removals = Removals(reactor, storage, cache, images, grace)
    operators = OperatorAccess(reactor, str(folder), lambda: OWN["Authorization"][7:])
    parts = (reactor, operators, builder, storage, cache, images, removals, auth)
    async with serving(apis=[ImagesApi(*parts, True)], auth=auth) as server:
        server.builder = builder
        yield Operated(server, storage, cache, images)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer x"}, {"Authorization": f"Basic {TOKEN}"}, {"Cookie": TOKEN}],
)
@pytest_twisted.ensureDeferred
async def test_for_operators_alone(tmp_path: Path, headers: dict[str, str]) -> None:
    """Without the token there is nothing to see, to make or to remove, for users neither."""
    async with operated(tmp_path) as registry:
        manifest = await registry.make("git")
        for method, path in (
            *(("GET", "/api/images"), ("POST", "/api/images"), ("POST", "/api/gc")),
            *(("GET", "/api/images/git:latest"), ("DELETE", f"/api/images/{manifest.digest}")),
        ):
            answer = await registry.server.ask(path, method, headers)
            assert (answer.status, answer.error()["code"]) == (401, "UNAUTHORIZED")
            assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert len(registry.images.all()) == 1
        assert registry.server.builder.asked == []


@pytest_twisted.ensureDeferred
async def test_lists(tmp_path: Path) -> None:
    """All images are listed, in pages that lead to each other, or those that some words fit; each
    is to be had by all names it has."""
    async with operated(tmp_path) as registry:
        made = [await registry.make(f"p{number}", "v1") for number in range(5)]
        listed = (await registry.get())["images"]
        assert {each["digest"] for each in listed} == {str(each.digest) for each in made}
        path, names = "/api/images?n=2", []
        while path:
            answer = await registry.server.ask(path, headers=OWN)
            names += [each["name"] for each in json.loads(answer.body)["images"]]
            path = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
        assert names == [each["name"] for each in listed]
        found = (await registry.get("/api/images?q=V1+p3"))["images"]
        assert [each["name"] for each in found] == ["p3"]
        digest = made[3].digest
        for reference in ("p3:v1", f"p3@{digest}", f"@{digest}", str(digest)):
            one = await registry.get(f"/api/images/{reference}")
            assert (one["name"], one["tag"], one["platforms"]) == ("p3", "v1", ["linux/amd64"])
            assert (one["source"], one["contents"]) == (ORIGIN.source, None)


@pytest_twisted.ensureDeferred
async def test_contents(tmp_path: Path) -> None:
    """The contents of an image are told whole; they are written beside the reactor's thread, since
    there may be thousands of store paths."""
    threads = set()

    class Noting(dict[str, str]):
        """Notes which threads look at it."""

        def items(self) -> Any:
            threads.add(threading.get_ident())
            return super().items()

    async with operated(tmp_path) as registry:
        manifest = await registry.make("git", contents=pack_contents(USUAL))
        noting = attrs.evolve(USUAL, substituted=Noting(USUAL.substituted))
        registry.cache._contents.put(manifest.digest, noting)
        one = await registry.get("/api/images/git:latest")
        assert one["contents"] == json.loads(json.dumps(attrs.asdict(USUAL)))
        assert threads
        assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        *(("p3", 404), ("other:v1", 404), ("p3:v2", 404), (f"p3@sha256:{'0' * 64}", 404)),
        *((f"sha256:{'0' * 64}", 404), ("p3@sha256:1", 400), ("P!:v1", 400), ("p3:a!", 400)),
        ("p3:v1@", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_unknown_images(tmp_path: Path, reference: str, status: int) -> None:
    """What is unknown, or no name, can neither be looked at nor removed."""
    async with operated(tmp_path) as registry:
        await registry.make("p3", "v1")
        answer = await registry.server.ask(f"/api/images/{reference}", headers=OWN)
        assert answer.status == status
        assert (await registry.remove(reference)).status == status
        assert len(registry.images.all()) == 1


@pytest_twisted.ensureDeferred
async def test_another_name_of_a_digest(tmp_path: Path) -> None:
    """A digest with the name of another image is unknown."""
    async with operated(tmp_path) as registry:
        manifest = await registry.make("git")
        assert (await registry.remove(f"htop@{manifest.digest}")).status == 404


@pytest_twisted.ensureDeferred
async def test_warm(tmp_path: Path) -> None:
    """An image that has to be made is answered with the address of its build, at once; one that is
    there with its own."""
    async with operated(tmp_path) as registry:
        builder = registry.server.builder
        builder.build, builder.gate = "0123", Deferred()
        answer = await registry.warm(name="shell/git", tag="v1")
        assert (answer.status, answer.headers["location"]) == (202, "/builds/0123")
        assert json.loads(answer.body) == {"name": "shell/git", "tag": "v1", "build": "0123"}
        assert builder.asked == [parse_image("shell/git", "v1")]
        assert builder.left == 0
        builder.gate.callback(None)
        builder.build = builder.gate = None
        answer = await registry.warm(name="shell/git")
        assert answer.status == 200
        assert json.loads(answer.body)["digest"] in answer.headers["location"]


@pytest_twisted.ensureDeferred
async def test_warm_in_vain(tmp_path: Path) -> None:
    """What can't be made is refused as a pull of it would be, also if it failed a moment ago."""
    async with operated(tmp_path) as registry:
        registry.server.builder.error = UnknownTag("v1", "the source")
        for build in (None, "0123"):
            registry.server.builder.build = build
            answer = await registry.warm(name="git", tag="v1")
            assert (answer.status, answer.error()["code"]) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *(
            (each, "BODY_INVALID")
            for each in (b"", b"[]", b"{}", b"\xff", b'{"name": 1}', b"[" * 4000)
        ),
        *((b'{"name": "%b"}' % name, "NAME_INVALID") for name in (b"Git", b"../git", b"git//x")),
        (b'{"name": "git", "tag": "a b"}', "TAG_INVALID"),
        (b'{"name": "shell/git", "tag": ["v1"]}', "BODY_INVALID"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bodies_that_name_no_image(tmp_path: Path, body: bytes, code: str) -> None:
    """A body that names no image is refused, with what is wrong."""
    async with operated(tmp_path) as registry:
        answer = await registry.server.post("/api/images", body, OWN)
        assert (answer.status, answer.error()["code"]) == (400, code)
        assert registry.server.builder.asked == []


@pytest_twisted.ensureDeferred
async def test_large_bodies(tmp_path: Path) -> None:
    """A body that is larger than any name is refused."""
    async with operated(tmp_path) as registry:
        assert (await registry.server.post("/api/images", b"x" * 5000, OWN)).status == 413


@pytest_twisted.ensureDeferred
async def test_what_nobody_may_pull(tmp_path: Path) -> None:
    """What the rules let nobody pull is not made; what one user may pull is."""
    auth = Auth(Guard(None, lambda: RULES))
    async with operated(tmp_path, auth) as registry:
        answer = await registry.warm(name="shell/htop")
        assert (answer.status, answer.error()["code"]) == (403, "DENIED")
        assert (await registry.warm(name="git")).status == 200


@pytest_twisted.ensureDeferred
async def test_index(tmp_path: Path) -> None:
    """An index has the contents of its image for amd64, and what came of the verification."""
    async with operated(tmp_path) as registry:
        children = {}
        for platform, name in (("linux/arm64", "arm64/git"), ("linux/amd64", "git")):
            child = children[platform] = await registry.make(name)
            packed = pack_contents(Contents(name, "latest", "a-system", "s", "r", 1.0, (), (), ()))
            await registry.cache.remember_manifest(None, child, ORIGIN, packed)
            record = {"digest": str(child.digest), "result": {"of": name}}
            await registry.cache.write(f"verified/{child.digest.hex}", record)
        index, image = make_index(children, {}), parse_image("git", "latest")
        await registry.cache.remember_manifest(None, index, ORIGIN, image=image)
        shown = await registry.get(f"/api/images/{index.digest}")
        assert (shown["contents"]["name"], shown["verified"]) == ("git", {"of": "git"})
        assert shown["platforms"] == ["linux/amd64", "linux/arm64"]


@pytest_twisted.ensureDeferred
async def test_remove(tmp_path: Path) -> None:
    """A removed image is gone; a second removal finds nothing, two at once are one."""
    async with operated(tmp_path) as registry:
        manifest = await registry.make("git", "v1")
        removals = [Deferred.fromCoroutine(registry.remove("git:v1")) for _ in range(3)]
        statuses = {(await removal).status for removal in removals}
        assert 204 in statuses
        assert statuses <= {204, 404}
        assert (await registry.remove("git:v1")).status == 404
        assert (await registry.get())["images"] == []
        assert manifest.digest not in registry.storage.blobs


@pytest_twisted.ensureDeferred
async def test_collect(tmp_path: Path) -> None:
    """Garbage is collected when it is asked for: what a removed image alone had is gone then."""
    async with operated(tmp_path) as registry:
        manifest = await registry.make("git")
        await registry.remove("git:latest")
        layer = manifest.blobs[1].digest
        assert layer in registry.storage.blobs
        answer = await registry.server.post("/api/gc", b"", OWN)
        assert (answer.status, json.loads(answer.body)["dropped"]) == (200, 0)
        assert layer not in registry.storage.blobs
