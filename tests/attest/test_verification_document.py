"""What came of making an image again, as a document."""

import json

import attrs

from nixery.attest.document import IN_TOTO
from nixery.attest.verification_document import verification_document
from nixery.model.digest import Digest
from nixery.model.reproduction import PREDICATE_TYPE, predicate_of
from tests.model.test_reproduction import SAME


def test_a_statement() -> None:
    """It is a statement about the image, by its digest and name, with the result; no time is in it
    that would make another one of the same result."""
    digest = Digest.of(b"an image")
    made = attrs.evolve(SAME, digest=str(digest))
    document = verification_document(made)
    statement = json.loads(document.content)
    assert (document.media_type, document.predicate_type) == (IN_TOTO, PREDICATE_TYPE)
    assert statement["predicateType"] == PREDICATE_TYPE
    assert statement["predicate"] == predicate_of(made)
    assert SAME.source.encode() not in document.content
    assert statement["subject"] == [{"name": SAME.name, "digest": {"sha256": digest.hex}}]
