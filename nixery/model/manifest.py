"""Descriptors, image config, manifest and index: the documents of the OCI image specification.

https://github.com/opencontainers/image-spec (v1.1): manifest.md, config.md, descriptor.md,
image-index.md.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import attrs

from nixery.model.closure import store_name
from nixery.model.digest import Digest
from nixery.model.execution import Execution
from nixery.model.identity import EPOCH_DATE, LABELS, Identity
from nixery.model.image import Image
from nixery.model.request_errors import DigestInvalid

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = (INDEX_TYPE, DOCKER_INDEX_TYPE)
"""Media types of an index, those of the specification first."""

LEFT_OUT = "dev.nixery.left-out"
"""The annotation of an index that names the platforms it has no image for, and the causes."""

MAX_MANIFEST_SIZE = 4 * 1024 * 1024
"""Bytes: what the distribution specification obliges registries to take."""

_NAMES_IN_HISTORY = 8


@attrs.frozen
class Descriptor:
    """A blob's descriptor.

    :param size: bytes.
    """

    media_type: str
    digest: Digest
    size: int

    def document(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"mediaType": self.media_type, "size": self.size, "digest": str(self.digest)}


@attrs.frozen
class Layer:
    """A packed layer.

    :param descriptor: of its compressed bytes.
    :param diff_id: the digest of its tar stream.
    :param paths: the store paths in it; none for the root file system.
    """

    descriptor: Descriptor
    diff_id: Digest
    paths: tuple[str, ...] = ()


@attrs.frozen
class Manifest:
    """A manifest's bytes and what is known of them.

    :param blobs: descriptors of the config and the layers, in that order; of an index, those of
        its manifests.
    :param children: the manifests of an index.
    """

    content: bytes
    media_type: str
    digest: Digest
    blobs: tuple[Descriptor, ...]
    children: "tuple[Manifest, ...]" = ()

    @property
    def is_index(self) -> bool:
        """Whether it is an index."""
        return self.media_type in INDEX_TYPES

    @property
    def parts(self) -> tuple[Descriptor, ...]:
        """Descriptors of all that is asked for of it: itself, what it names, and all that the
        manifests of an index name."""
        own = Descriptor(self.media_type, self.digest, len(self.content))
        named = chain.from_iterable(child.parts for child in self.children)
        return (own, *(named if self.children else self.blobs))

    def annotation(self, name: str) -> str:
        """An annotation that the specification has a name for; empty if there is none.

        :param name: without what all of these begin with.
        """
        annotations = json.loads(self.content).get("annotations")
        text = annotations.get(f"{LABELS}{name}") if isinstance(annotations, dict) else None
        return text if isinstance(text, str) else ""


def config_bytes(
    image: Image, layers: Sequence[Layer], execution: Execution, identity: Identity
) -> bytes:
    """The image config, the same bytes for the same contents of the same revision."""
    config = {
        "Env": [f"{name}={value}" for name, value in execution.environment.items()],
        "Entrypoint": list(execution.entrypoint),
        "Cmd": list(execution.command),
        "User": execution.user,
        "WorkingDir": execution.folder,
        "Labels": dict(execution.labels),
        "ExposedPorts": {port: {} for port in execution.ports},
        "Volumes": {volume: {} for volume in execution.volumes},
    }
    return _json(
        {
            "created": identity.date,
            "architecture": image.architecture,
            "os": "linux",
            "config": {name: value for name, value in config.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
            "history": [_history(layer) for layer in layers],
        }
    )


def make_manifest(
    config: Descriptor, layers: Sequence[Layer], labels: Mapping[str, str] | None = None
) -> Manifest:
    """Put an image's manifest together.

    :param labels: of the config. Those that the specification has names for are annotations, too:
        engines show the former, and registries and their clients the latter.
    """
    blobs = (config, *(layer.descriptor for layer in layers))
    annotations = {n: text for n, text in (labels or {}).items() if n.startswith(LABELS)}
    content = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.document(),
            "layers": [blob.document() for blob in blobs[1:]],
            **({"annotations": annotations} if annotations else {}),
        }
    )
    return Manifest(content, MANIFEST_TYPE, Digest.of(content), blobs)


def make_index(
    manifests: Mapping[str, Manifest], left_out: Mapping[str, str], media_type: str = INDEX_TYPE
) -> Manifest:
    """Put the index of an image together; its annotations are those of the first manifest.

    :param manifests: platform, such as ``linux/amd64`` → the image's manifest for it.
    :param left_out: platform → why there is none for it.
    :param media_type: one of :data:`INDEX_TYPES`.
    """
    platforms = sorted(manifests)
    children = tuple(manifests[platform] for platform in platforms)
    annotations = dict(json.loads(children[0].content).get("annotations", {}))
    if left_out:
        causes = (f"{platform}: {cause}" for platform, cause in sorted(left_out.items()))
        annotations[LEFT_OUT] = "; ".join(causes)
    listed = []
    for platform, child in zip(platforms, children, strict=True):
        os, architecture = platform.split("/")
        named = {"os": os, "architecture": architecture}
        listed.append({**child.parts[0].document(), "platform": named})
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed}
    content = _json({**document, **({"annotations": annotations} if annotations else {})})
    blobs = tuple(child.parts[0] for child in children)
    return Manifest(content, media_type, Digest.of(content), blobs, children)


def parse_manifest(content: bytes) -> Manifest | None:
    """Read stored bytes that may be a manifest of ours, or an index without its manifests.

    :return: nothing if they are something else (a config, say).
    """
    try:
        document = json.loads(content)
        media_type = document["mediaType"]
        if media_type in INDEX_TYPES:
            named = document["manifests"]
        elif media_type == MANIFEST_TYPE:
            named = (document["config"], *document["layers"])
        else:
            return None
        blobs = tuple(map(_descriptor, named))
    except (ValueError, KeyError, TypeError, RecursionError, DigestInvalid):
        return None
    return Manifest(content, media_type, Digest.of(content), blobs)


def _descriptor(document: Any) -> Descriptor:
    return Descriptor(document["mediaType"], Digest.parse(document["digest"]), document["size"])


def _history(layer: Layer) -> dict[str, str]:
    names = sorted(store_name(path) for path in layer.paths)
    shown = ", ".join(names[:_NAMES_IN_HISTORY])
    more = f" and {len(names) - _NAMES_IN_HISTORY} more" if len(names) > _NAMES_IN_HISTORY else ""
    return {"created": EPOCH_DATE, "created_by": f"nixery: {shown or 'root file system'}{more}"}


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("utf-8")
