"""All that is attached to a manifest: documents about it, and signatures, in every form in which
clients look for them.
"""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from nixery.attest.document import Document
from nixery.attest.signatures import (
    BUNDLE_TYPE,
    ENVELOPE_TYPE,
    SIGNED,
    SIMPLE_SIGNING_TYPE,
    bundle,
    envelope,
    signed_statement,
    simple_payload,
)
from nixery.attest.signing_keys import SigningKey
from nixery.model.artifact import EMPTY, Artifact, json_bytes, make_artifact, referrers_index
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, MANIFEST_TYPE, Descriptor, Manifest

INDEX, SIGNATURE, ATTESTATIONS = "", ".sig", ".att"
"""What follows the digest in the tags: that of the referrers' index, as registries without the
referrers API have it; and those at which cosign looks for signatures and attestations."""
SUFFIXES = (INDEX, SIGNATURE, ATTESTATIONS)


@attrs.frozen
class Attached:
    """All that is attached to a manifest.

    :param tags: one of :data:`SUFFIXES` → the manifest or index that the tag stands for.
    :param blobs: the bytes of all of it, each once.
    """

    tags: Mapping[str, Manifest]
    blobs: tuple[bytes, ...]


@attrs.frozen
class _Layer:
    """A part of one of cosign's own manifests."""

    media_type: str
    content: bytes
    annotations: Mapping[str, str]


def attach(
    subject: Descriptor,
    references: Sequence[str],
    documents: Sequence[Document],
    keys: Sequence[SigningKey],
) -> Attached:
    """Attach documents to a manifest, and sign it and them by each key. It may take long.

    The same gives the same bytes.

    :param subject: the manifest's descriptor.
    :param references: the repositories that the manifest is said to be of, its own first.
    """
    artifacts = [_attached_document(subject, each) for each in documents]
    signatures, attestations = [], []
    payloads = [simple_payload(subject.digest, reference) for reference in references]
    signed = signed_statement(subject, references[0])
    statements = [
        (each.predicate_type, each.statement(subject, references[0])) for each in documents if keys
    ]
    for key in keys:
        for payload in payloads:
            note = {"dev.cosignproject.cosign/signature": key.sign(payload)}
            signatures.append(_Layer(SIMPLE_SIGNING_TYPE, payload, note))
        artifacts.append(_bundle(subject, SIGNED, bundle(envelope(signed, key), key)))
        for predicate_type, content in statements:
            made = envelope(content, key)
            # cosign verifies what is in the envelope, and wants the annotation all the same.
            note = {"dev.cosignproject.cosign/signature": "", "predicateType": predicate_type}
            attestations.append(_Layer(ENVELOPE_TYPE, json_bytes(made), note))
            artifacts.append(_bundle(subject, predicate_type, bundle(made, key)))
    tags = {INDEX: referrers_index([each.descriptor for each in artifacts])}
    blobs = [EMPTY, *_bytes_of(artifacts), tags[INDEX].content] if artifacts else []
    for suffix, layers in ((SIGNATURE, signatures), (ATTESTATIONS, attestations)):
        if layers:
            tags[suffix], config = _of_cosign(layers)
            blobs += [*(layer.content for layer in layers), config, tags[suffix].content]
    return Attached(tags, tuple(dict.fromkeys(blobs)))


def _bytes_of(artifacts: Sequence[Artifact]) -> Iterator[bytes]:
    for each in artifacts:
        yield each.document
        yield each.manifest.content


def _attached_document(subject: Descriptor, document: Document) -> Artifact:
    kind, name = document.artifact_type, document.file_name
    return make_artifact(subject, document.content, document.media_type, kind, name)


def _bundle(subject: Descriptor, predicate_type: str, content: bytes) -> Artifact:
    annotations = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": predicate_type,
    }
    title = f"sha256-{Digest.of(content).hex}.sigstore.json"
    return make_artifact(subject, content, BUNDLE_TYPE, BUNDLE_TYPE, title, annotations)


def _of_cosign(layers: Sequence[_Layer]) -> tuple[Manifest, bytes]:
    """A manifest as cosign writes it, which looks like that of an image, and its config."""
    blobs = [
        Descriptor(each.media_type, Digest.of(each.content), len(each.content)) for each in layers
    ]
    config = json_bytes(
        {
            "architecture": "",
            "os": "",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(blob.digest) for blob in blobs]},
        }
    )
    own = Descriptor(CONFIG_TYPE, Digest.of(config), len(config))
    listed = [
        {**blob.document(), "annotations": dict(layer.annotations)}
        for blob, layer in zip(blobs, layers, strict=True)
    ]
    content = json_bytes(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": own.document(),
            "layers": listed,
        }
    )
    return Manifest(content, MANIFEST_TYPE, Digest.of(content), (own, *blobs)), config
