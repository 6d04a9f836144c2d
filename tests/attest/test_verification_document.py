"""What came of making an image again, as an attestation."""

import json

import attrs

from nixery.attest.document import IN_TOTO, STATEMENT
from nixery.attest.verification_document import verification_document
from nixery.model.digest import Digest
from nixery.model.manifest import Descriptor
from tests.model.test_reproduction import DIFFERENT, SAME

DIGEST = "sha256:" + "a" * 64


def test_a_statement() -> None:
    """The statement is about the image's manifest, and is what is signed as it is."""
    made = attrs.evolve(SAME, digest=DIGEST, again=DIGEST)
    document = verification_document(made)
    stated = json.loads(document.content)
    assert (stated["_type"], document.media_type) == (STATEMENT, IN_TOTO)
    assert stated["subject"] == [{"name": "git", "digest": {"sha256": "a" * 64}}]
    assert stated["predicateType"] == document.predicate_type
    assert stated["predicate"]["result"] == "PASSED"
    subject = Descriptor("", Digest.parse(DIGEST), 0)
    assert document.statement(subject, "git") == document.content


def test_a_difference() -> None:
    """A difference is a failed test; neither tag nor what differs is told to everybody."""
    made = attrs.evolve(SAME, digest=DIGEST, tag="secret", derivations=(DIFFERENT,))
    content = verification_document(made).content
    assert json.loads(content)["predicate"]["result"] == "FAILED"
    assert b"secret" not in content
    assert b"bin/git" not in content
