"""Key pairs, and tokens as a token server makes them."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import attrs
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

AUDIENCE, ISSUER = "registry.example", "tokens.example"


@attrs.frozen
class Signer:
    """A private key, and the algorithm that it signs with."""

    key: Any
    algorithm: str

    @classmethod
    def of(cls, algorithm: str) -> "Signer":
        """A new key for an algorithm."""
        match algorithm:
            case "RS256":
                return cls(rsa.generate_private_key(65537, 2048), algorithm)
            case "ES256":
                return cls(ec.generate_private_key(ec.SECP256R1()), algorithm)
            case _:
                return cls(ed25519.Ed25519PrivateKey.generate(), algorithm)

    @property
    def public(self) -> bytes:
        """The public key, PEM."""
        pem: bytes = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem

    def jwk(self, name: str) -> dict[str, Any]:
        """The public key, for a key set."""
        kinds = {"RS256": jwt.algorithms.RSAAlgorithm, "ES256": jwt.algorithms.ECAlgorithm}
        kind: Any = kinds.get(self.algorithm, jwt.algorithms.OKPAlgorithm)
        return {**json.loads(kind.to_jwk(self.key.public_key())), "kid": name}

    def write(self, path: Path) -> str:
        """Write the public key to a file, and say where it is."""
        path.write_bytes(self.public)
        return str(path)

    def token(self, *names: str, kid: str | None = None, **changed: Any) -> str:
        """A good token to pull images of some names, but for what is changed of it.

        :param changed: claims; none to leave one out.
        """
        claims = {**good_claims(*names), **changed}
        kept = {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": kid} if kid is not None else None
        return jwt.encode(kept, self.key, self.algorithm, headers)


def good_claims(*names: str) -> dict[str, Any]:
    """The claims of a good token."""
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "nbf": now - 60,
        "iat": now - 60,
        "exp": now + 3600,
        "access": [{"type": "repository", "name": name, "actions": ["pull"]} for name in names],
    }


def forged(claims: dict[str, Any], algorithm: str, signature: bytes = b"") -> str:
    """A token that nobody has signed."""
    parts = [json.dumps({"alg": algorithm, "typ": "JWT"}).encode(), json.dumps(claims).encode()]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in [*parts, signature]
    )
