"""Who a client is: the ``Authorization`` header, and static bearer tokens."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import attrs

from nixery.access.passwords import PasswordChecker
from nixery.access.watched import FileInvalid, read_lines
from nixery.model.request_errors import Unauthorized
from nixery.model.rules import ANONYMOUS, Who

if TYPE_CHECKING:
    from nixery.access.jwt import TokenVerifier

ANONYMOUS_TOKEN = "anonymous"
"""The token of anonymous clients, where a client must have one."""
_WRAPPED = "basic."

_WRONG = "the credentials are invalid or have expired"
# A colon between no user and no password: podman sends that without credentials.
_NO_USER = ("Og==", "Og")
_DIGEST = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Tokens:
    """Static bearer tokens.

    :param users: by the SHA-256 of the token, so that no token is kept.
    """

    users: Mapping[bytes, str] = attrs.field(repr=lambda users: f"<{len(users)} tokens>")

    def user_of(self, token: bytes) -> str | None:
        """The user of a token, if there is one.

        Tokens are compared by their SHA-256: so the time tells nothing of similar tokens.
        """
        digest = sha256(token).digest()
        for known, user in self.users.items():
            if hmac.compare_digest(known, digest):
                return user
        return None


def read_tokens(path: str) -> Tokens:
    """Read a file of lines ``user:SHA-256 of a token``. Blocks.

    :raises FileInvalid: naming the invalid lines, but not their contents, which may be tokens.
    :raises OSError: if it can't be read.
    """
    found: dict[bytes, str] = {}
    faults: list[str] = []
    for number, line in read_lines(path):
        user, _, digest = line.rpartition(":")
        if not user or not _DIGEST.fullmatch(digest.lower()):
            faults.append(f"line {number} is not user:SHA-256 of a token (sha256sum)")
            continue
        found[bytes.fromhex(digest)] = user
    if faults:
        raise FileInvalid("; ".join(faults))
    return Tokens(found)


@attrs.frozen
class Credentials:
    """The ways in which a client may authenticate.

    :param passwords: checks users' passwords, if there are any.
    :param tokens: gives the current static tokens.
    :param verifier: gives the current verifier of a token server's tokens, if there is one.
    """

    passwords: PasswordChecker | None
    tokens: Callable[[], Tokens]
    verifier: "Callable[[], TokenVerifier | None]"

    def files(self) -> tuple[object, ...]:
        """The present contents of the files that passwords and tokens are checked against."""
        passwords = self.passwords.passwords() if self.passwords is not None else None
        return passwords, self.tokens(), self.verifier()

    async def who(self, header: str, client: str) -> Who:
        """The sender of an ``Authorization`` header.

        :param client: the client's network.
        :raises Unauthorized: if the credentials are wrong, or not understood.
        :raises TooManyAttempts: if the client has tried too many wrong passwords.
        """
        scheme, _, rest = header.strip().partition(" ")
        rest = rest.strip()
        match scheme.lower():
            case "basic":
                return await self._basic(rest, client)
            case "bearer" if rest.startswith(_WRAPPED):
                return await self._basic(rest.removeprefix(_WRAPPED), client)
            case "bearer":
                return self._bearer(rest)
            case _:
                raise Unauthorized(_WRONG)

    async def _basic(self, encoded: str, client: str) -> Who:
        try:
            decoded = base64.b64decode(encoded, validate=True)
            user, colon, password = decoded.partition(b":")
            name = user.decode("utf-8")
        except (binascii.Error, ValueError):
            raise Unauthorized(_WRONG) from None
        if not colon or not name:
            raise Unauthorized(_WRONG)
        if self.tokens().user_of(password) == name:
            return Who(name)
        if self.passwords is not None and await self.passwords.check(name, password, client):
            return Who(name)
        raise Unauthorized(_WRONG)

    def _bearer(self, token: str) -> Who:
        if token == ANONYMOUS_TOKEN:
            return ANONYMOUS
        user = self.tokens().user_of(token.encode("latin-1", "replace"))
        if user is not None:
            return Who(user)
        verifier = self.verifier()
        who = verifier.who(token) if verifier is not None else None
        if who is None:
            raise Unauthorized(_WRONG)
        return who


def is_empty(header: str) -> bool:
    """Whether an ``Authorization`` header has no credentials."""
    scheme, _, rest = header.strip().partition(" ")
    return (
        not scheme
        or (scheme.lower() in ("basic", "bearer") and not rest.strip())
        or (scheme.lower() == "basic" and rest.strip() in _NO_USER)
    )


def wrapped(header: str) -> str:
    """A bearer token that stands for a header of the scheme ``Basic``.

    It has the header's own content: so it is checked anew on every instance, and needs no key.
    """
    return _WRAPPED + header.strip().partition(" ")[2].strip()
