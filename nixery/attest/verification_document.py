"""What came of making an image again, as an attestation about it."""

from nixery.attest.document import IN_TOTO, Document, encode, statement_about
from nixery.model.digest import Digest
from nixery.model.manifest import Descriptor
from nixery.model.reproduction import PREDICATE_TYPE, Reproduction, predicate_of


def verification_document(made: Reproduction) -> Document:
    """The result as an in-toto statement."""
    # Of its subject, a statement has the digest alone.
    subject = Descriptor("", Digest.parse(made.digest), 0)
    stated = statement_about(subject, made.name, PREDICATE_TYPE)
    content = encode({**stated, "predicate": predicate_of(made)})
    return Document(IN_TOTO, IN_TOTO, content, PREDICATE_TYPE, "verification.json")
