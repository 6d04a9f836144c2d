"""Service accounts, their keys, and the tokens they get."""

import base64
import functools
import json
import secrets
from collections.abc import Collection
from pathlib import Path
from urllib.parse import parse_qsl

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.gcs.answers import Answer, Asked, Refused, json_answer
from tests.gcs.objects import Clock

LIFETIME = 3600
"""Seconds that a token is good for, if a test doesn't say otherwise."""
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SKEW = 300


@functools.cache
def _make_key(number: int) -> rsa.RSAPrivateKey:
    """A key: making one takes a while, so all tests share a few."""
    return rsa.generate_private_key(65537, 2048)


@attrs.frozen
class Account:
    """A service account with its key."""

    email: str
    key: rsa.RSAPrivateKey = attrs.field(repr=False)
    project: str = "project"

    @property
    def pem(self) -> str:
        """The private key as Google hands it out."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def sign(self, message: bytes) -> bytes:
        """An RSA signature of a message."""
        return self.key.sign(message, PKCS1v15(), SHA256())

    def write(self, path: Path, token_uri: str) -> None:
        """Write the file that ``GOOGLE_APPLICATION_CREDENTIALS`` may name."""
        document = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": "0a" * 20,
            "private_key": self.pem,
            "client_email": self.email,
            "client_id": "1",
            "token_uri": token_uri,
        }
        path.write_text(json.dumps(document), encoding="utf-8")


@attrs.define
class Accounts:
    """The accounts that are known, and the tokens that were given out.

    :ivar tokens: until when each token is good, in seconds since 1970; tests may change it.
    :ivar lifetime: seconds that a new token is good for.
    :ivar refreshes: how many tokens were given out by request.
    :ivar may_sign: whether accounts may have the server sign for them.
    """

    clock: Clock
    known: dict[str, Account] = attrs.field(factory=dict)
    tokens: dict[str, float] = attrs.field(factory=dict)
    lifetime: float = LIFETIME
    refreshes: int = 0
    may_sign: bool = True

    def add(self, email: str) -> Account:
        """Make an account known."""
        account = Account(email, _make_key(len(self.known)))
        self.known[email] = account
        return account

    def keys(self) -> dict[str, rsa.RSAPublicKey]:
        """The public keys by which signed URLs are verified."""
        return {email: account.key.public_key() for email, account in self.known.items()}

    def issue(self) -> str:
        """A new token."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.tokens[token] = self.clock.now() + self.lifetime
        return token

    def demand_token(self, asked: Asked) -> None:
        """
        :raises Refused: if the request has no good token.
        """
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or self.tokens.get(token, 0) <= self.clock.now():
            message = "Invalid Credentials" if kind else "Anonymous caller does not have access."
            headers = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'}
            reason = "authError" if kind else "required"
            raise Refused(401, reason, message, headers=headers)

    def refresh(self, asked: Asked, audiences: Collection[str]) -> Answer:
        """Give out a token for a grant that an account signed.

        :param audiences: whom the grant may be made for.
        """
        form = dict(parse_qsl(asked.body.decode("ascii", "replace")))
        try:
            if form.get("grant_type") != _JWT_GRANT:
                raise ValueError("unsupported grant type")
            self._check_grant(form.get("assertion", ""), audiences)
        except (ValueError, KeyError, TypeError, InvalidSignature) as error:
            document = {"error": "invalid_grant", "error_description": f"Invalid JWT: {error}"}
            return json_answer(document, 400)
        return self.hand_out()

    def hand_out(self) -> Answer:
        """An answer with a new token, which is counted."""
        self.refreshes += 1
        document = {
            "access_token": self.issue(),
            "expires_in": int(self.lifetime),
            "token_type": "Bearer",
        }
        return json_answer(document)

    def sign_blob(self, asked: Asked, email: str) -> Answer:
        """IAM's ``signBlob``.

        :raises Refused: if that isn't permitted, or there is no such account.
        """
        self.demand_token(asked)
        account = self.known.get(email)
        if not self.may_sign:
            message = "Permission 'iam.serviceAccounts.signBlob' denied on resource."
            raise Refused(403, "IAM_PERMISSION_DENIED", message)
        if account is None:
            raise Refused(404, "notFound", f"Unknown service account: {email}")
        signature = account.sign(base64.b64decode(asked.document()["payload"]))
        signed = base64.b64encode(signature).decode()
        return json_answer({"keyId": "0a" * 20, "signedBlob": signed})

    def _check_grant(self, assertion: str, audiences: Collection[str]) -> None:
        """
        :raises Exception: of several kinds if the grant isn't a good one.
        """
        message, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_unpack(part)) for part in message.split("."))
        if header["alg"] != "RS256":
            raise ValueError("unsupported algorithm")
        public = self.known[claims["iss"]].key.public_key()
        public.verify(_unpack(signature), message.encode(), PKCS1v15(), SHA256())
        if claims["aud"] not in audiences:
            raise ValueError(f"made for {claims['aud']}")
        now = self.clock.now()
        if not claims["iat"] - _SKEW <= now < claims["exp"] <= claims["iat"] + 3600:
            raise ValueError("not of this time")
        if "https://www.googleapis.com/auth/" not in claims["scope"]:
            raise ValueError("without a scope")


def _unpack(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
