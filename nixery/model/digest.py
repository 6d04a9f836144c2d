"""sha256 digests as the registry protocol writes them."""

import hashlib
import re

import attrs

from nixery.model.request_errors import DigestInvalid

_FORM = re.compile(r"sha256:([0-9a-f]{64})")


@attrs.frozen(order=True)
class Digest:
    """A sha256 digest.

    :param hex: the 64 lower-case hexadecimal digits, without the algorithm.
    """

    hex: str = attrs.field(validator=attrs.validators.matches_re(r"[0-9a-f]{64}"))

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read ``sha256:<hex>``.

        :raises DigestInvalid: for any other form or algorithm.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise DigestInvalid(digest=text)
        return cls(match[1])

    @classmethod
    def of(cls, content: bytes) -> "Digest":
        """The digest of bytes that are at hand (small ones: hashing is not split up)."""
        return cls(hashlib.sha256(content).hexdigest())

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
