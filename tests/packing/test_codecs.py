"""Codecs: each says of itself what decides which bytes it makes."""

import platform
import zlib

import isal
import pytest

from nixery.packing.codecs import COMPRESSIONS, media_type, packer_version


def test_versions() -> None:
    """Each way to compress has a version of its own that names its library."""
    versions = {name: packer_version(name) for name in COMPRESSIONS}
    assert len(set(versions.values())) == len(COMPRESSIONS)
    assert f"isal-{isal.__version__}" in versions["fast"]
    assert zlib.ZLIB_RUNTIME_VERSION in versions["small"]


def test_media_types() -> None:
    """Layers bear the media types of the image specification."""
    assert media_type("fast") == media_type("small")
    assert media_type("fast") == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert media_type("zstd") == "application/vnd.oci.image.layer.v1.tar+zstd"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other machines, other bytes")
def test_pinned_bytes() -> None:
    """The pinned isal makes the bytes that it made when the pin was set, on x86-64-v2 and later.

    When this fails after an update of isal, layers will be packed anew: their keys follow.
    """
    assert packer_version("fast") == "tar-1 isal-1.9.1-2 1048576 71ef6b0ba619"
