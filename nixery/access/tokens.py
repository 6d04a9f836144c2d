"""Static bearer tokens: a file of ``user:SHA-256 of a token``, so that it holds no token."""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256

import attrs

from nixery.access.entries import read_lines
from nixery.access.watched import FileInvalid

_DIGEST = re.compile("[0-9a-f]{64}")


@attrs.frozen
class Tokens:
    """Whose each token is.

    :param users: by the SHA-256 of the token, which tells nothing of it.
    """

    users: Mapping[bytes, str] = attrs.field(repr=lambda users: f"<{len(users)} tokens>")

    def user_of(self, token: bytes) -> str | None:
        """Whose a token is, if it is one.

        What a client sends is compared by its SHA-256, so the time that this takes says nothing
        about tokens that are near it.
        """
        digest = sha256(token).digest()
        for known, user in self.users.items():
            if hmac.compare_digest(known, digest):
                return user
        return None


def read_tokens(path: str) -> Tokens:
    """Read a file of tokens. Blocks.

    :raises FileInvalid: naming the lines that are no entries; what is in them is not said, since
        it may be a token.
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
