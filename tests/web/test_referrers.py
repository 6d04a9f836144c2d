"""What is attached to images, over HTTP."""

import json
from typing import Any

import pytest
import pytest_twisted

from nixery.access.guard import Guard
from nixery.attest.signatures import BUNDLE_TYPE
from nixery.attest.signing_keys import SigningKey
from nixery.builds.cache import Cache
from nixery.interfaces import Provenance
from nixery.model.contents import Contents, pack_contents
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    make_manifest,
)
from nixery.model.rules import Patterns, Rules
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import Auth
from nixery.web.referrers import PUBLIC_KEYS
from tests.attest.keys import ECDSA_KEY, ED25519_KEY
from tests.web.server import MANIFEST, Answer, Server, serving
from tests.web.test_auth import ALICE, Make, make

__all__ = ["make"]

pytestmark = pytest.mark.usefixtures("both_ways")

KEYS = [SigningKey.of(ECDSA_KEY), SigningKey.of(ED25519_KEY)]
CONTENTS = Contents("hello", "latest", "x86_64-linux", "s", "r", 1e9, (), (), ())
UNKNOWN = Digest.of(b"never served")


async def stored(config: bytes = b"config") -> tuple[MemoryStorage, Manifest]:
    """A storage with an image."""
    storage = MemoryStorage()
    return storage, await add(storage, config)


async def add(storage: MemoryStorage, config: bytes) -> Manifest:
    """Store an image."""
    descriptor = Descriptor(CONFIG_TYPE, await storage.write_blob(config), len(config))
    image = make_manifest(descriptor, [])
    origin, packed = Provenance("git:https://example.com/x", "1"), pack_contents(CONTENTS)
    await Cache(storage).remember_manifest(
        Digest.of(config).hex, image, origin, packed, parse_image("hello", "latest")
    )
    return image


def listed(answer: Answer) -> list[dict[str, Any]]:
    """The artifacts in an answer, which is an index."""
    assert (answer.status, answer.headers["content-type"]) == (200, INDEX_TYPE)
    found: list[dict[str, Any]] = json.loads(answer.body)["manifests"]
    return found


async def walk(server: Server, name: str, digest: Digest) -> list[Answer]:
    """All that is attached to an image, manifest by manifest and blob by blob, by the one name."""
    found = []
    index = await server.ask(f"/v2/{name}/referrers/{digest}")
    for descriptor in listed(index):
        manifest = await server.ask(f"/v2/{name}/manifests/{descriptor['digest']}")
        assert int(manifest.headers["content-length"]) == descriptor["size"]
        named = json.loads(manifest.body)
        assert named["subject"]["digest"] == str(digest)
        blobs = [
            await server.ask(f"/v2/{name}/blobs/{blob['digest']}")
            for blob in (named["config"], *named["layers"])
        ]
        found += [manifest, *blobs]
    return found


@pytest_twisted.ensureDeferred
async def test_all_is_found(both_ways: None) -> None:
    """From an image's digest, all that is attached to it is found, and loaded by its name."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        server.builder.cache = Cache(storage)
        answers = await walk(server, "hello", image.digest)
        assert [answer.status for answer in answers] == [200] * 6
        types = {each.headers["content-type"] for each in answers}
        assert types == {MANIFEST_TYPE, "application/octet-stream"}


@pytest_twisted.ensureDeferred
async def test_artifacts_are_no_pulls() -> None:
    """Who verifies an image, by tags or by digests, pulls nothing that is counted."""
    storage, image = await stored()
    sent: list[object] = []
    async with serving(
        storage=storage, keys=KEYS, on_manifest=lambda *facts: sent.append(facts)
    ) as server:
        server.builder.cache = Cache(storage)
        await walk(server, "hello", image.digest)
        for suffix in ("", ".sig"):
            path = f"/v2/hello/manifests/sha256-{image.digest.hex}{suffix}"
            found = await server.ask(path)
            assert found.status == 200
            digest = found.headers["docker-content-digest"]
            await server.ask(f"/v2/hello/manifests/{digest}")
    assert sent == []


@pytest_twisted.ensureDeferred
async def test_one_type() -> None:
    """Of a type that is asked for there are those alone, and it is said that others may be left
    out; whatever the type is."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        path = f"/v2/hello/referrers/{image.digest}"
        for kind, count in (
            (BUNDLE_TYPE.replace("+", "%2B"), 2),
            ("x", 0),
            ("%00%ff%0d%0aX:y", 0),
            ("x" * 1500, 0),
        ):
            answer = await server.ask(f"{path}?artifactType={kind}")
            assert len(listed(answer)) == count
            assert answer.headers["oci-filters-applied"] == "artifactType"
        everything = await server.ask(f"{path}?artifactType=")
        assert len(listed(everything)) == 2
        assert "oci-filters-applied" not in everything.headers


@pytest_twisted.ensureDeferred
async def test_the_fallback_tag() -> None:
    """The tag that older clients look at stands for the same index; by the digest that it has, it
    is found as well."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        answer = await server.ask(f"/v2/hello/referrers/{image.digest}")
        tagged = await server.ask(f"/v2/hello/manifests/sha256-{image.digest.hex}")
        assert (tagged.status, tagged.body) == (200, answer.body)
        assert tagged.headers["docker-content-digest"] == str(Digest.of(answer.body))
        assert Digest.of(answer.body) in storage.blobs


@pytest_twisted.ensureDeferred
async def test_the_tags_of_cosign() -> None:
    """At cosign's tag there is a manifest with a signature by each key; at others there is
    nothing."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        server.builder.cache = Cache(storage)
        tag = f"/v2/hello/manifests/sha256-{image.digest.hex}"
        answer = await server.ask(f"{tag}.sig")
        assert (answer.status, answer.headers["content-type"]) == (200, MANIFEST_TYPE)
        assert len(json.loads(answer.body)["layers"]) == 2
        digest = answer.headers["docker-content-digest"]
        assert (await server.ask(f"/v2/hello/manifests/{digest}")).body == answer.body
        for suffix in (".att", ".sbom", ".x"):
            missing = await server.ask(tag + suffix)
            assert (missing.status, missing.error()["code"]) == (404, "MANIFEST_UNKNOWN")
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["referrers/sha256:{0}", "manifests/sha256-{0}.sig"])
async def test_head_and_conditions(path: str) -> None:
    """HEAD answers with the headers of GET, and who has the answer is told so."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        path = f"/v2/hello/{path.format(image.digest.hex)}"
        got, head = await server.ask(path), await server.ask(path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        for name in ("content-type", "content-length", "docker-content-digest", "etag"):
            assert head.headers[name] == got.headers[name]
        again = await server.ask(path, headers={"If-None-Match": got.headers["etag"]})
        assert (again.status, again.body) == (304, b"")


@pytest_twisted.ensureDeferred
async def test_nothing_is_attached() -> None:
    """What was never served, what is no image, and digests of other algorithms have an empty index,
    and nothing at the fallback tag."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        for digest in (str(UNKNOWN), str(image.blobs[0].digest), "sha512:" + "0" * 128):
            assert listed(await server.ask(f"/v2/hello/referrers/{digest}")) == []
            tag = digest.replace(":", "-")
            answer = await server.ask(f"/v2/hello/manifests/{tag}")
            assert (answer.status, answer.error()["code"]) == (404, "MANIFEST_UNKNOWN")
        for digest in ("sha256:", "sha256:abc", "SHA512:" + "0" * 128, "sha512:x", "a:b"):
            answer = await server.ask(f"/v2/hello/referrers/{digest}")
            assert (answer.status, answer.error()["code"]) == (400, "DIGEST_INVALID")
    async with serving(storage=storage) as server:
        answer = await server.ask(f"/v2/hello/manifests/sha256-{image.digest.hex}")
        assert answer.status == 404


@pytest_twisted.ensureDeferred
async def test_rights() -> None:
    """What is attached to an image is for those who may pull that image, by its name alone."""
    storage, image = await stored()
    other = await add(storage, b"secret")
    auth = Auth(Guard(None, lambda: Rules(Patterns(allow=["hello", "other"]))))
    async with serving(storage=storage, keys=KEYS, auth=auth) as server:
        server.builder.cache = Cache(storage)
        assert listed(await server.ask(f"/v2/hello/referrers/{image.digest}")) == []
        server.builder.served = image
        assert (await server.ask("/v2/hello/manifests/latest")).status == 200
        answers = await walk(server, "hello", image.digest)
        assert [answer.status for answer in answers] == [200] * 6
        assert listed(await server.ask(f"/v2/other/referrers/{image.digest}")) == []
        assert (await server.ask(f"/v2/secret/referrers/{image.digest}")).status == 403
        for answer in answers:
            digest = answer.headers["docker-content-digest"]
            kind = "manifests" if answer.headers["content-type"] == MANIFEST_TYPE else "blobs"
            assert (await server.ask(f"/v2/other/{kind}/{digest}")).status == 404
            assert (await server.ask(f"/v2/secret/{kind}/{digest}")).status == 403
        for path in ("referrers/{}", "manifests/sha256-{}.sig", "manifests/sha256-{}"):
            place = path.format(other.digest.hex if "-" in path else other.digest)
            answer = await server.ask(f"/v2/hello/{place}")
            assert answer.status == 404 or listed(answer) == []


@pytest_twisted.ensureDeferred
async def test_a_pull_goes_on() -> None:
    """A client that loads an artifact does not end another one's use of the image by that name."""
    storage, image = await stored()
    async with serving(storage=storage, keys=KEYS) as server:
        server.builder.cache = Cache(storage)
        server.builder.served = image
        await server.ask("/v2/hello/manifests/latest")
        await walk(server, "hello", image.digest)
        storage.used.clear()
        await server.ask(f"/v2/hello/blobs/{image.blobs[0].digest}")
        assert image.digest in storage.used


@pytest_twisted.ensureDeferred
async def test_public_keys(make: Make) -> None:
    """The public keys are for everybody, also where all else asks for credentials."""
    async with serving(auth=make(jwt=True), keys=KEYS) as server:
        answer = await server.ask(PUBLIC_KEYS)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-pem-file")
        assert answer.body.decode() == KEYS[0].public + KEYS[1].public
        assert (await server.ask(f"/v2/x/referrers/{MANIFEST.digest}")).status == 401
    async with serving(auth=make()) as server:
        assert (await server.ask(PUBLIC_KEYS)).status == 404
        assert (await server.ask(PUBLIC_KEYS, headers=ALICE)).status == 404
