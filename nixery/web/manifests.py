"""Answers that are manifests, or indexes."""

from nixery.http.answers import describe
from nixery.http.request import RegistryRequest
from nixery.model.manifest import Manifest


def answer_manifest(request: RegistryRequest, manifest: Manifest) -> bytes:
    """Answer with a manifest, unless the client has it.

    :return: the body.
    """
    digest = str(manifest.digest)
    request.setHeader(b"Docker-Content-Digest", digest.encode("ascii"))
    request.setHeader(b"ETag", f'"{digest}"'.encode("ascii"))
    if request.has_current(digest):
        request.setResponseCode(304)
        return b""
    return describe(request, manifest.media_type, manifest.content)
