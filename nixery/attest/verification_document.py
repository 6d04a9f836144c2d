"""What came of making an image again, as a document about it."""

from nixery.attest.document import IN_TOTO, Document, statement_about
from nixery.model.artifact import json_bytes
from nixery.model.digest import Digest
from nixery.model.manifest import MANIFEST_TYPE, Descriptor
from nixery.model.reproduction import PREDICATE_TYPE, Reproduction, predicate_of


def verification_document(made: Reproduction) -> Document:
    """A verification as an in-toto statement: https://in-toto.io/attestation/test-result/v0.1."""
    subject = Descriptor(MANIFEST_TYPE, Digest.parse(made.digest), 0)
    stated = statement_about(subject, made.name, PREDICATE_TYPE)
    content = json_bytes({**stated, "predicate": predicate_of(made)})
    return Document(IN_TOTO, IN_TOTO, content, PREDICATE_TYPE, "verification.json")
