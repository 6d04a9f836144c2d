"""Keys that tests sign with."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

ECDSA_KEY = derive_private_key(2**200 + 7, SECP256R1())
ED25519_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def write_key(path: Path, key: object, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    """Write a private key to a file that is its owner's alone, and say where."""
    pem = key.private_bytes(Encoding.PEM, form, NoEncryption())  # type: ignore[attr-defined]
    path.write_bytes(pem)
    path.chmod(0o600)
    return str(path)
