"""Manifests of artifacts, and the index that lists them."""

import json

import pytest

from nixery.model.artifact import is_artifact, make_artifact, of_type, referrers_index
from nixery.model.digest import Digest
from nixery.model.manifest import CONFIG_TYPE, MANIFEST_TYPE, Descriptor, make_manifest

SUBJECT = Descriptor(MANIFEST_TYPE, Digest.of(b"an image"), 8)
ONE = make_artifact(SUBJECT, b"1", "text/plain", "of/one", "1.txt")
TWO = make_artifact(SUBJECT, b"2", "text/plain", "of/two", "2.txt", {"note": "x"})
INDEX = referrers_index([ONE.descriptor, TWO.descriptor])


def test_an_artifact_is_told_from_an_image() -> None:
    """An artifact has a config that every artifact has; an image has one of its own."""
    assert is_artifact(ONE.manifest)
    assert is_artifact(TWO.manifest)
    assert not is_artifact(make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"{}"), 2), []))
    assert not is_artifact(INDEX)


def test_the_index() -> None:
    """An index lists artifacts with their types and annotations; annotations that there are none of
    are not in it."""
    listed = json.loads(INDEX.content)["manifests"]
    assert [each.get("annotations") for each in listed] == [None, {"note": "x"}]
    assert [each["digest"] for each in listed] == [
        str(ONE.manifest.digest),
        str(TWO.manifest.digest),
    ]
    assert [blob.digest for blob in INDEX.blobs] == [ONE.manifest.digest, TWO.manifest.digest]


@pytest.mark.parametrize(
    ("kind", "count"), [("of/one", 1), ("of/", 0), ("OF/ONE", 0), ('"', 0), ("of/one\0", 0)]
)
def test_artifacts_of_one_type(kind: str, count: int) -> None:
    """A type is compared as it is, whatever it is."""
    listed = json.loads(of_type(INDEX.content, kind).content)["manifests"]
    assert [each["artifactType"] for each in listed] == [kind] * count
