"""The keys that images are signed with."""

from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from nixery.attest import signing_keys
from nixery.attest.signing_keys import KeyInvalid, SigningKey, read_signing_key, remarks_on_key
from tests.attest.keys import ECDSA_KEY, ED25519_KEY, write_key

PARAMETERS = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_ecdsa(tmp_path: Path, form: PrivateFormat) -> None:
    """A P-256 key in either form of OpenSSL's, with its parameters before it or not, signs: the
    public key verifies it, and the signature is the same each time."""
    path = write_key(tmp_path / "key", ECDSA_KEY, form)
    alone = read_signing_key(path)
    Path(path).write_text(PARAMETERS + Path(path).read_text())
    key = read_signing_key(path)
    assert key.public == alone.public
    public = load_pem_public_key(key.public.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(b64decode(key.sign(b"message")), b"message", ec.ECDSA(SHA256()))
    assert key.sign(b"message") == alone.sign(b"message") != key.sign(b"other")


def test_ed25519(tmp_path: Path) -> None:
    """So does an Ed25519 key."""
    key = read_signing_key(write_key(tmp_path / "key", ED25519_KEY))
    ED25519_KEY.public_key().verify(b64decode(key.sign(b"message")), b"message")
    assert key.sign(b"message") == key.sign(b"message")


def test_an_old_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library can't make the same signature each time, it makes any."""
    made = ec.ECDSA

    def old(hash: SHA256, deterministic_signing: bool = False) -> ec.ECDSA:
        if deterministic_signing:
            raise UnsupportedAlgorithm("not here")
        return made(hash)

    monkeypatch.setattr(signing_keys, "ECDSA", old)
    signature = b64decode(SigningKey.of(ECDSA_KEY).sign(b"message"))
    ECDSA_KEY.public_key().verify(signature, b"message", made(SHA256()))


def test_the_key_is_not_told() -> None:
    """What a key looks like in a message shows nothing that is private."""
    key = SigningKey.of(ECDSA_KEY)
    assert str(ECDSA_KEY.private_numbers().private_value) not in repr(key)
    assert "_key" not in repr(key)


def encrypted(form: PrivateFormat) -> bytes:
    return ECDSA_KEY.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))


def public() -> bytes:
    return ECDSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


COSIGN = (
    b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJrZGYiOnt9fQ==\n"
    b"-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
)
BROKEN = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
REFUSED = {
    "empty": (b"", "has no private key"),
    "binary": (bytes(range(256)), "has no private key"),
    "the public key": (public(), "has no private key"),
    "broken": (BROKEN, "can't be read"),
    "encrypted": (encrypted(PrivateFormat.PKCS8), "is encrypted"),
    "encrypted as before": (encrypted(PrivateFormat.TraditionalOpenSSL), "is encrypted"),
    "of cosign": (COSIGN, "cosign's own form"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_can_not_be_used(tmp_path: Path, kind: str) -> None:
    """What is wrong with a file is said, without anything of what is in it."""
    content, reason = REFUSED[kind]
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(KeyInvalid, match=reason) as caught:
        read_signing_key(str(tmp_path / "key"))
    assert "AAAA" not in str(caught.value)


OTHERS = {
    "secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed448": lambda: ed448.Ed448PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_keys_of_other_kinds(tmp_path: Path, kind: str) -> None:
    """A key of another kind, or of another curve, is refused with the kind that it is of, and those
    that can be used."""
    path = write_key(tmp_path / "key", OTHERS[kind]())
    with pytest.raises(KeyInvalid, match=f"{kind}; expected an ECDSA key of the curve P-256 or"):
        read_signing_key(path)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    """A file that can't be read is the operating system's error."""
    with pytest.raises(FileNotFoundError):
        read_signing_key(str(tmp_path / "key"))


@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o440, 0), (0o604, 1), (0o662, 1)])
def test_permissions(tmp_path: Path, mode: int, count: int) -> None:
    """There is a remark on a key that everybody on the machine can read or change."""
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    remarks = remarks_on_key(str(path))
    assert len(remarks) == count
    assert all(f"mode {mode:o}" in each for each in remarks)
