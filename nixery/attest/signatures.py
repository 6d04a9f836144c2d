"""Signatures as cosign has them, of a manifest and of documents about it.

- a payload of simple signing, whose signature is an annotation:
  https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
- in-toto statements in DSSE envelopes: https://github.com/secure-systems-lab/dsse
- such an envelope in a bundle of sigstore:
  https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
"""

from base64 import b64encode
from typing import Any

from nixery.attest.document import IN_TOTO, statement_about
from nixery.attest.signing_keys import SigningKey
from nixery.model.artifact import json_bytes
from nixery.model.digest import Digest
from nixery.model.manifest import Descriptor

SIMPLE_SIGNING_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""What a statement states that is the signature of a manifest."""


def simple_payload(digest: Digest, reference: str) -> bytes:
    """The payload of simple signing for a manifest.

    :param reference: the repository that it is said to be of.
    """
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": str(digest)},
        "type": "cosign container image signature",
    }
    return json_bytes({"critical": critical, "optional": {}})


def signed_statement(subject: Descriptor, reference: str) -> bytes:
    """The in-toto statement that a manifest is signed, and nothing else.

    :param reference: the repository that it is said to be of.
    """
    return json_bytes({**statement_about(subject, reference, SIGNED), "predicate": {}})


def envelope(payload: bytes, key: SigningKey) -> dict[str, Any]:
    """A DSSE envelope with a signed in-toto statement."""
    kind = IN_TOTO.encode("ascii")
    signed = b" ".join([b"DSSEv1", b"%d" % len(kind), kind, b"%d" % len(payload), payload])
    return {
        "payload": b64encode(payload).decode("ascii"),
        "payloadType": IN_TOTO,
        "signatures": [{"keyid": "", "sig": key.sign(signed)}],
    }


def bundle(signed: dict[str, Any], key: SigningKey) -> bytes:
    """A DSSE envelope in a bundle, with all that it takes to verify it but for the key."""
    material = {"publicKey": {"hint": key.hint}, "tlogEntries": []}
    return json_bytes(
        {"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": signed}
    )
