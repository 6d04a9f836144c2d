"""A token server's tokens."""

import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.access.jwt import TokenVerifier, read_keys
from nixery.access.watched import FileInvalid
from nixery.model.rules import Who
from tests.access.signing import AUDIENCE, ISSUER, Signer, forged, good_claims

SIGNER = Signer.of("RS256")
STRANGER = Signer.of("RS256")


def verifier(tmp_path: Path, signer: Signer = SIGNER) -> TokenVerifier:
    return TokenVerifier(read_keys(signer.write(tmp_path / "key.pem")), AUDIENCE, ISSUER)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_good_tokens(tmp_path: Path, algorithm: str) -> None:
    """A good token says who it is for, and which images it is good for."""
    signer = Signer.of(algorithm)
    who = verifier(tmp_path, signer).who(signer.token("hello", "shell/git"))
    assert who == Who("alice", frozenset({"hello", "shell/git"}))


@pytest.mark.parametrize("expires", [10**10, 10**400])
def test_expiry(tmp_path: Path, expires: int) -> None:
    """A token says until when it is good, however long that is."""
    who = verifier(tmp_path).who(SIGNER.token("hello", exp=expires))
    assert who is not None
    assert who.until == min(expires, 2**40)


PAST, FUTURE = 10**9, 10**10
"""In 2001 and in 2286: the names of tests are the same at any time."""
BAD: list[dict[str, Any]] = [
    {"exp": PAST},
    {"exp": None},
    {"exp": "soon"},
    {"nbf": FUTURE},
    {"aud": "another"},
    {"aud": None},
    {"aud": []},
    {"iss": "another"},
    {"iss": None},
    {"access": "all"},
]


@pytest.mark.parametrize("changed", BAD, ids=repr)
def test_bad_claims(tmp_path: Path, changed: dict[str, Any]) -> None:
    """A token that is expired, not yet good, another's, or unlimited, is none."""
    assert verifier(tmp_path).who(SIGNER.token("hello", **changed)) is None


def test_forgeries(tmp_path: Path) -> None:
    """Nothing but a signature with the key makes a token."""
    claims, good = good_claims("hello"), SIGNER.token("hello")
    header, payload, _ = good.split(".")
    signed = forged(claims, "HS256").rpartition(".")[0]
    confused = hmac.digest(SIGNER.public, signed.encode(), sha256)
    tokens = [
        *(forged(claims, name) for name in ("none", "None", "RS256", "HS256", "")),
        forged(claims, "HS256", confused),
        STRANGER.token("hello"),
        f"{header}.{payload}.",
        f"{header}.{payload}",
        good[:-8] + "AAAAAAAA",
    ]
    checker = verifier(tmp_path)
    assert [checker.who(token) for token in tokens] == [None] * len(tokens)
    assert checker.who(good) is not None


def test_key_sets(tmp_path: Path) -> None:
    """Each key of a set is good for its own algorithm; tokens may name the key, or not."""
    signers = {"one": SIGNER, "two": STRANGER, "three": Signer.of("ES256")}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [s.jwk(name) for name, s in signers.items()]}))
    checker = TokenVerifier(read_keys(str(path)), AUDIENCE, None)
    for name, signer in signers.items():
        assert checker.who(signer.token("hello", kid=name)) is not None
        assert checker.who(signer.token("hello", kid="another", iss=None)) is not None
    assert checker.who(Signer.of("EdDSA").token("hello")) is None


def test_what_is_granted(tmp_path: Path) -> None:
    """Only what may be pulled is granted; what is not understood grants nothing."""
    entries = [
        {"type": "repository", "name": "all", "actions": ["*"]},
        {"type": "repository", "name": "pushed", "actions": ["push"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
        {"type": "repository", "name": ["x"], "actions": ["pull"]},
        "all",
        None,
    ]
    who = verifier(tmp_path).who(SIGNER.token(access=entries))
    assert who == Who("alice", frozenset({"all"}))
    assert verifier(tmp_path).who(SIGNER.token(access=None, sub="")) == Who(None, frozenset())


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join))
def test_any_text(text: str) -> None:
    """Whatever is sent as a token, nothing goes wrong, and it is none."""
    keys = [key for key in _KEYS if key is not None]
    assert TokenVerifier(keys, AUDIENCE, ISSUER).who(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{",
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "AAAA"}]}',
        '{"keys": [1]}',
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_files_without_a_key(tmp_path: Path, text: str) -> None:
    """A file without a public key is a fault."""
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(FileInvalid):
        read_keys(str(path))


def _keys() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_keys(SIGNER.write(Path(folder) / "key.pem"))


_KEYS = _keys()
