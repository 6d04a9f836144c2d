"""All documents about an image."""

import attrs
from hypothesis import given

from nixery.attest.image_documents import documents_of
from nixery.model.contents import Contents
from tests.attest.samples import SUBJECT, USUAL, any_contents, many


@given(any_contents())
def test_same_contents_same_bytes(contents: Contents) -> None:
    """Neither when the image was made nor by which tag it was asked for is in a document: both may
    be others for the same image, and the tag may not be for everybody."""
    others = attrs.evolve(contents, made=5.0, tag="other")
    assert documents_of(contents, SUBJECT) == documents_of(others, SUBJECT)


def test_private_places() -> None:
    """The documents, which go wherever the image goes, name no source that the image does not
    name."""
    for document in documents_of(USUAL, SUBJECT):
        assert b"git.internal" not in document.content
        assert b"private-branch" not in document.content


def test_kinds() -> None:
    """Each document has its own type, statement and file name."""
    found = documents_of(USUAL, SUBJECT)
    for kinds in (
        {each.artifact_type for each in found},
        {each.predicate_type for each in found},
        {each.file_name for each in found},
    ):
        assert len(kinds) == 3


def test_ten_thousand_paths() -> None:
    """Documents about very many store paths are made, and mention each."""
    contents = many(10_000)
    for document in documents_of(contents, SUBJECT):
        assert all(facts.path.encode() in document.content for facts in contents.paths[::100])
