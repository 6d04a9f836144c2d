"""Artifacts: manifests that say something about another one, and the index that lists them. Pure.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nixery.model.digest import Digest
from nixery.model.manifest import INDEX_TYPE, MANIFEST_TYPE, Descriptor, Manifest
from nixery.model.source import canonical_json

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
"""The config of an artifact: there is nothing to configure."""
EMPTY_DIGEST = Digest.of(EMPTY)
_CONFIG = Descriptor(EMPTY_TYPE, EMPTY_DIGEST, len(EMPTY))
_TITLE = "org.opencontainers.image.title"


@attrs.frozen
class Artifact:
    """A document that is attached to a manifest.

    :param document: its bytes.
    :param artifact_type: what it is; clients look for it by this.
    :param manifest: the one that attaches it.
    :param annotations: of the manifest.
    """

    document: bytes
    artifact_type: str
    manifest: Manifest
    annotations: Mapping[str, str]

    @property
    def descriptor(self) -> dict[str, Any]:
        """As it stands in the index of those that refer to the same manifest."""
        own = self.manifest.parts[0].document()
        annotations = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {**own, "artifactType": self.artifact_type, **annotations}


def json_bytes(document: Any) -> bytes:
    """JSON, the same bytes for equal documents."""
    return canonical_json(document).encode("ascii")


def is_artifact(manifest: Manifest) -> bool:
    """Whether a manifest attaches a document to another one."""
    return manifest.blobs[:1] == (_CONFIG,)


def make_artifact(
    subject: Descriptor,
    document: bytes,
    media_type: str,
    artifact_type: str,
    title: str,
    annotations: Mapping[str, str] | None = None,
) -> Artifact:
    """Attach a document to a manifest: the same bytes each time.

    :param subject: the manifest's.
    :param media_type: of the document.
    :param title: the name of the file that clients save it in.
    """
    layer = Descriptor(media_type, Digest.of(document), len(document))
    content = json_bytes(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": _CONFIG.document(),
            "layers": [{**layer.document(), "annotations": {_TITLE: title}}],
            "subject": subject.document(),
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    )
    manifest = Manifest(content, MANIFEST_TYPE, Digest.of(content), (_CONFIG, layer))
    return Artifact(document, artifact_type, manifest, annotations or {})


def referrers_index(descriptors: Sequence[Mapping[str, Any]]) -> Manifest:
    """The index of artifacts that refer to one manifest.

    :param descriptors: see :attr:`Artifact.descriptor`.
    """
    document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(descriptors)}
    content = json_bytes(document)
    blobs = (Descriptor(d["mediaType"], Digest.parse(d["digest"]), d["size"]) for d in descriptors)
    return Manifest(content, INDEX_TYPE, Digest.of(content), tuple(blobs))


def of_type(index: bytes, artifact_type: str) -> Manifest:
    """The part of an index of referrers that lists artifacts of one type.

    :param index: the bytes of one that :func:`referrers_index` made.
    """
    listed = json.loads(index)["manifests"]
    return referrers_index([d for d in listed if d["artifactType"] == artifact_type])
