"""What a client says of itself, and whether it is true: the ``Authorization`` header."""

import base64
import binascii
from collections.abc import Callable

import attrs

from nixery.access.jwt import Verifier
from nixery.access.passwords import PasswordChecker
from nixery.access.tokens import Tokens
from nixery.model.errors import Unauthorized
from nixery.model.rules import ANONYMOUS, Who

ANONYMOUS_TOKEN = "anonymous"
"""What stands for no credentials where a client must have a token."""
_WRAPPED = "basic."

_WRONG = "the credentials are invalid or have expired"
# A colon between no user and no password: what podman sends without credentials.
_NO_USER = ("Og==", "Og")


@attrs.frozen
class Credentials:
    """The ways in which a client may authenticate.

    :param passwords: checks users' passwords, if there are any.
    :param tokens: the static tokens of the moment.
    :param verifier: verifies a token server's tokens, if there is one.
    """

    passwords: PasswordChecker | None
    tokens: Callable[[], Tokens]
    verifier: Callable[[], Verifier | None]

    async def who(self, header: str, client: str) -> Who:
        """Who sends an ``Authorization`` header.

        :param client: the network that it comes from.
        :raises Unauthorized: if it is not true, or not understood.
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
    """Whether an ``Authorization`` header holds no credentials, and so is none."""
    scheme, _, rest = header.strip().partition(" ")
    return (
        not scheme
        or (scheme.lower() in ("basic", "bearer") and not rest.strip())
        or (scheme.lower() == "basic" and rest.strip() in _NO_USER)
    )


def wrapped(header: str) -> str:
    """A bearer token that stands for a header of the scheme ``Basic``.

    It is the header's own content: whatever the registry knows of the user when the token comes
    back counts, on every instance, and there is no key to keep.
    """
    return _WRAPPED + header.strip().partition(" ")[2].strip()
