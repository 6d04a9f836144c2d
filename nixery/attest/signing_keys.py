"""The keys that images are signed with."""

import hashlib
import os
import re
from base64 import b64encode

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

KINDS = "an ECDSA key of the curve P-256 or an Ed25519 key"
_LARGEST = 64 * 1024  # bytes of a file
# openssl writes a block of parameters before some keys.
_PRIVATE = re.compile(
    rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL
)
_OF_COSIGN = (b"ENCRYPTED SIGSTORE ", b"ENCRYPTED COSIGN ")
_OTHERS = 0o007  # permissions of everybody on the machine


class KeyInvalid(Exception):
    """A file has no key that images can be signed with: the message is to be read after its path.

    It tells nothing of what is in the file.
    """


@attrs.frozen
class SigningKey:
    """A private key, and what everybody may know of it.

    :param public: the public key, in PEM.
    :param hint: names the key in sigstore's bundles: a digest of the public key, in base64.
    """

    _key: EllipticCurvePrivateKey | Ed25519PrivateKey = attrs.field(repr=False)
    public: str
    hint: str

    @classmethod
    def of(cls, key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> "SigningKey":
        """A private key."""
        public = key.public_key()
        info = PublicFormat.SubjectPublicKeyInfo
        digest = hashlib.sha256(public.public_bytes(Encoding.DER, info)).digest()
        pem = public.public_bytes(Encoding.PEM, info).decode("ascii")
        return cls(key, pem, b64encode(digest).decode("ascii"))

    def sign(self, message: bytes) -> str:
        """The signature of a message, in base64: where the library can, the same each time, so that
        all instances make the same."""
        if isinstance(self._key, Ed25519PrivateKey):
            signature = self._key.sign(message)
        else:
            signature = self._key.sign(message, _ecdsa())
        return b64encode(signature).decode("ascii")


def read_signing_key(path: str) -> SigningKey:
    """Read a private key from a PEM file. Blocks.

    :raises KeyInvalid: if there is none in it that can be used.
    :raises OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        pem = file.read(_LARGEST)
    block = _PRIVATE.search(pem)
    if block is None:
        raise KeyInvalid(f"has no private key in PEM form; expected {KINDS}")
    if block[1] in _OF_COSIGN:
        raise KeyInvalid(
            "is encrypted in cosign's own format, which only cosign reads; expected a PEM file as "
            "'openssl genpkey' writes it"
        )
    try:
        key = load_pem_private_key(block[0], None)
    except TypeError:
        raise KeyInvalid("is encrypted; the daemon can't ask for a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyInvalid(f"has a private key that can't be read; expected {KINDS}") from None
    if isinstance(key, EllipticCurvePrivateKey) and not isinstance(key.curve, SECP256R1):
        raise KeyInvalid(f"has a key of the curve {key.curve.name}; expected {KINDS}")
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
        raise KeyInvalid(f"has a key of type {kind}; expected {KINDS}")
    return SigningKey.of(key)


def remarks_on_key(path: str) -> list[str]:
    """A sentence if everybody on this machine can read a key, or change it. Blocks."""
    mode = os.stat(path).st_mode & 0o777
    if not mode & _OTHERS:
        return []
    return [f"{path}: every user of this machine has access to it (mode {mode:o}); set mode 600"]


def _ecdsa() -> ECDSA:
    try:
        return ECDSA(SHA256(), deterministic_signing=True)
    except UnsupportedAlgorithm:  # OpenSSL is older than 3.2
        return ECDSA(SHA256())
