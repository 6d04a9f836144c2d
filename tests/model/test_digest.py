"""Digests as the registry protocol writes them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.digest import Digest
from nixery.model.request_errors import DigestInvalid

HEX = "0123456789abcdef" * 4


@given(st.binary(max_size=100))
def test_written_and_read_again(content: bytes) -> None:
    """The digest of bytes is their sha256, and its text is read as the same digest."""
    digest = Digest.of(content)
    assert digest.hex == hashlib.sha256(content).hexdigest()
    assert Digest.parse(str(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256", "sha256:", HEX, f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX}\n"),
        *(f"sha256:{HEX.upper()}", f"SHA256:{HEX}", f" sha256:{HEX}", f"sha256:{HEX[1:]}g"),
        *(f"sha512:{HEX}{HEX}", f"sha256-{HEX}", f"sha256:../{HEX[3:]}", f"sha256:{HEX[1:]}٣"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Another algorithm, length, case or alphabet is no digest, and the error shows the text."""
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert repr(text[:90]) in str(caught.value)


@given(st.text())
def test_any_text(text: str) -> None:
    """What is no digest is refused, at any place of an otherwise good one."""
    for wrong in (text, f"{text}sha256:{HEX}", f"sha256:{HEX}{text}", f"sha256:{text}{HEX}"):
        if wrong != f"sha256:{HEX}":
            with pytest.raises(DigestInvalid):
                Digest.parse(wrong)


def test_no_digest_is_made_of_anything_else() -> None:
    """A digest whose hexadecimal part could lead to another file can't come to be."""
    for text in ("../../x", HEX[1:], HEX.upper(), HEX + "\n"):
        with pytest.raises(ValueError, match="regex"):
            Digest(text)
