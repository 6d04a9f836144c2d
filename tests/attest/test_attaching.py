"""What is attached to a manifest, read as other programs do."""

import json
from base64 import b64decode
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256

from nixery.attest.attaching import ATTESTATIONS, INDEX, SIGNATURE, Attached, attach
from nixery.attest.document import IN_TOTO, Document
from nixery.attest.signatures import BUNDLE_TYPE, SIGNED, SIMPLE_SIGNING_TYPE
from nixery.attest.signing_keys import SigningKey
from nixery.model.artifact import of_type
from nixery.model.digest import Digest
from nixery.model.manifest import MANIFEST_TYPE, MAX_MANIFEST_SIZE, Descriptor
from tests.attest.keys import ECDSA_KEY, ED25519_KEY

SUBJECT = Descriptor(MANIFEST_TYPE, Digest.of(b"an image"), 8)
SBOM = Document("application/x", "application/x", b'{"a":1}', "https://example.com/p", "sbom.json")
STATEMENT = Document(IN_TOTO, IN_TOTO, b'{"_type":"t"}', "https://example.com/q", "p.json")
KEYS = [SigningKey.of(ECDSA_KEY), SigningKey.of(ED25519_KEY)]
NAMES = ["example.com/arm64/git", "example.com/git"]


def verify(key: SigningKey, signature: str, message: bytes) -> None:
    """Verify a signature without the code that made it."""
    if key is KEYS[0]:
        ECDSA_KEY.public_key().verify(b64decode(signature), message, ECDSA(SHA256()))
    else:
        ED25519_KEY.public_key().verify(b64decode(signature), message)


def signer(signature: str, message: bytes) -> SigningKey:
    """The key that made a signature."""
    for key in KEYS:
        try:
            verify(key, signature, message)
        except InvalidSignature:
            continue
        return key
    raise AssertionError("nobody signed this")


def opened(envelope: dict[str, Any]) -> tuple[SigningKey, dict[str, Any]]:
    """Who signed a DSSE envelope, and the statement in it."""
    payload, kind = b64decode(envelope["payload"]), envelope["payloadType"]
    [signature] = envelope["signatures"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    statement: dict[str, Any] = json.loads(payload)
    return signer(signature["sig"], message), statement


class Stored:
    """What is attached, found by its digests alone."""

    def __init__(self, attached: Attached) -> None:
        self.blobs = {str(Digest.of(content)): content for content in attached.blobs}
        self.tags = attached.tags

    def tagged(self, suffix: str) -> dict[str, Any]:
        return self.read({"digest": str(self.tags[suffix].digest)})

    def read(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        content = self.blobs[descriptor["digest"]]
        assert descriptor.get("size", len(content)) == len(content)
        document: dict[str, Any] = json.loads(content)
        return document


def test_documents_alone() -> None:
    """Without keys there are the documents, each an artifact of its own that names the image, and
    what cosign would look for there is not."""
    attached = attach(SUBJECT, NAMES, [SBOM, STATEMENT], [])
    stored = Stored(attached)
    assert set(attached.tags) == {INDEX}
    listed = stored.tagged(INDEX)["manifests"]
    assert [each["artifactType"] for each in listed] == ["application/x", IN_TOTO]
    for descriptor, document in zip(listed, [SBOM, STATEMENT], strict=True):
        manifest = stored.read(descriptor)
        assert manifest["mediaType"] == descriptor["mediaType"] == MANIFEST_TYPE
        assert manifest["artifactType"] == descriptor["artifactType"]
        assert manifest["subject"] == SUBJECT.document()
        assert stored.read(manifest["config"]) == {}
        [layer] = manifest["layers"]
        assert stored.blobs[layer["digest"]] == document.content
        assert layer["annotations"] == {"org.opencontainers.image.title": document.file_name}


def test_nothing() -> None:
    """Without keys and documents there is an empty index, and nothing to store."""
    attached = attach(SUBJECT, NAMES, [], [])
    assert json.loads(attached.tags[INDEX].content)["manifests"] == []
    assert (set(attached.tags), attached.blobs) == ({INDEX}, ())


def test_the_signature_of_cosign() -> None:
    """At cosign's tag there is a payload for each name of the image, signed by each key: the
    signature is of its very bytes."""
    stored = Stored(attach(SUBJECT, NAMES, [SBOM], KEYS))
    manifest = stored.tagged(SIGNATURE)
    config = stored.read(manifest["config"])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    found = []
    for layer in manifest["layers"]:
        assert layer["mediaType"] == SIMPLE_SIGNING_TYPE
        payload = stored.blobs[layer["digest"]]
        signature = layer["annotations"]["dev.cosignproject.cosign/signature"]
        critical = json.loads(payload)["critical"]
        assert critical["image"] == {"docker-manifest-digest": str(SUBJECT.digest)}
        assert critical["type"] == "cosign container image signature"
        found.append((signer(signature, payload), critical["identity"]["docker-reference"]))
    assert found == [(key, name) for key in KEYS for name in NAMES]


def test_attestations_of_cosign() -> None:
    """At cosign's other tag there are the documents as signed statements about the image."""
    stored = Stored(attach(SUBJECT, NAMES, [SBOM, STATEMENT], KEYS[:1]))
    sbom, other = stored.tagged(ATTESTATIONS)["layers"]
    key, statement = opened(stored.read(sbom))
    assert key is KEYS[0]
    assert sbom["annotations"]["predicateType"] == statement["predicateType"]
    assert statement["predicateType"] == SBOM.predicate_type
    assert statement["predicate"] == {"a": 1}
    assert statement["subject"] == [{"name": NAMES[0], "digest": {"sha256": SUBJECT.digest.hex}}]
    assert opened(stored.read(other))[1] == {"_type": "t"}


def test_bundles() -> None:
    """Among the referrers there is a bundle of each key for the image and for each document, which
    tells without being loaded what it states."""
    stored = Stored(attach(SUBJECT, NAMES, [SBOM, STATEMENT], KEYS))
    bundles = of_type(stored.tags[INDEX].content, BUNDLE_TYPE)
    found = []
    for descriptor in json.loads(bundles.content)["manifests"]:
        manifest = stored.read(descriptor)
        assert manifest["annotations"] == descriptor["annotations"]
        assert manifest["annotations"]["dev.sigstore.bundle.content"] == "dsse-envelope"
        [layer] = manifest["layers"]
        bundle = stored.read(layer)
        assert bundle["mediaType"] == layer["mediaType"] == BUNDLE_TYPE
        key, statement = opened(bundle["dsseEnvelope"])
        assert bundle["verificationMaterial"]["publicKey"]["hint"] == key.hint
        predicate_type = descriptor["annotations"]["dev.sigstore.bundle.predicateType"]
        assert statement.get("predicateType", predicate_type) == predicate_type
        found.append((key, predicate_type))
    types = [SIGNED, SBOM.predicate_type, STATEMENT.predicate_type]
    assert found == [(key, each) for key in KEYS for each in types]


def test_the_same_bytes() -> None:
    """The same is attached each time, and nothing of another image is."""
    first, again = (attach(SUBJECT, NAMES, [SBOM], KEYS) for _ in range(2))
    assert first == again
    other = Descriptor(MANIFEST_TYPE, Digest.of(b"another"), 7)
    assert attach(other, NAMES, [SBOM], KEYS).tags[INDEX].digest != first.tags[INDEX].digest


@pytest.mark.parametrize("count", [100])
def test_many_documents(count: int) -> None:
    """The index of very many documents is one that every registry takes."""
    documents = [SBOM] * count
    index = attach(SUBJECT, NAMES, documents, KEYS).tags[INDEX]
    assert len(json.loads(index.content)["manifests"]) == count + 2 * (count + 1)
    assert len(index.content) < MAX_MANIFEST_SIZE
