"""Tokens of a token server: signed JSON Web Tokens, as in Docker's registries.

https://distribution.github.io/distribution/spec/auth/jwt/
"""

import json
from collections.abc import Sequence
from typing import Any

import attrs
import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from nixery.access.watched import FileInvalid, read_text
from nixery.model.rules import Who

_LEEWAY = 10  # seconds that clocks may differ
_LEAST_BITS = 2048
_FAR = 2**40  # seconds since 1970
_KINDS = "an RSA key of 2048 bits, a P-256 key or an Ed25519 key"


@attrs.frozen
class Key:
    """A key that verifies tokens.

    :param id: its name in a key set.
    :param algorithm: the only accepted one, so that no token chooses another.
    """

    id: str | None
    algorithm: str
    key: Any = attrs.field(repr=False)


@attrs.frozen
class TokenVerifier:
    """Verifies tokens.

    :param audience: the audience that tokens must have.
    :param issuer: the issuer that they must have; None for any holder of the key.
    """

    keys: Sequence[Key]
    audience: str
    issuer: str | None

    def who(self, token: str) -> Who | None:
        """The user of a token, and what it grants; None if it is not valid."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        for key in self._candidates(header):
            claims = self._claims(token, key)
            if claims is not None:
                return _who(claims)
        return None

    def _candidates(self, header: dict[str, Any]) -> list[Key]:
        fitting = [key for key in self.keys if key.algorithm == header.get("alg")]
        named = [key for key in fitting if key.id is not None and key.id == header.get("kid")]
        return named or fitting

    def _claims(self, token: str, key: Key) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "aud"] + (["iss"] if self.issuer else [])},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return claims


def _who(claims: dict[str, Any]) -> Who | None:
    subject = claims.get("sub", "")
    access = claims.get("access") or []
    if not isinstance(subject, str) or not isinstance(access, list):
        return None
    grants = frozenset(name for each in access for name in _granted(each))
    return Who(subject or None, grants, min(int(claims["exp"]), _FAR))


def _granted(entry: Any) -> list[str]:
    match entry:
        case {"type": "repository", "name": str(name), "actions": list(actions)}:
            return [name] if "pull" in actions or "*" in actions else []
        case _:
            return []


def read_keys(path: str) -> list[Key]:
    """Read a public key or a certificate (PEM), or a set of keys (JWKS). Blocks.

    :raises FileInvalid: if it has another kind of key, or none.
    :raises OSError: if it can't be read.
    """
    text = read_text(path)
    if text.lstrip().startswith("{"):
        return _key_set(text)
    try:
        if "-----BEGIN CERTIFICATE-----" in text:
            public: Any = x509.load_pem_x509_certificate(text.encode("utf-8")).public_key()
        else:
            public = load_pem_public_key(text.encode("utf-8"))
    except (ValueError, UnsupportedAlgorithm):
        raise FileInvalid("is neither a public key (PEM), a certificate nor a JWKS") from None
    return [_key(None, public)]


def _key_set(text: str) -> list[Key]:
    try:
        documents = json.loads(text)["keys"]
        public = [each for each in documents if each.get("kty") != "oct" and "d" not in each]
        keys = [_key(each.get("kid"), jwt.PyJWK(each).key) for each in public]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, jwt.PyJWTError):
        raise FileInvalid("is not a set of public keys (JWKS)") from None
    if len(keys) != len(documents) or not keys:
        raise FileInvalid("is a key set with private keys, or without keys")
    return keys


def _key(name: str | None, public: Any) -> Key:
    match public:
        case RSAPublicKey(key_size=size) if size >= _LEAST_BITS:
            return Key(name, "RS256", public)
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return Key(name, "ES256", public)
        case Ed25519PublicKey():
            return Key(name, "EdDSA", public)
        case _:
            raise FileInvalid(f"has a key that is not {_KINDS}")
