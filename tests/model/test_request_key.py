"""Keys of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.request_key import KeyedHead, is_request_id, keyed_head

HEAD = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dTpw\r\n\r\n"
LARGE = HEAD[:-2] + b"a" * 1000 + b"\r\n\r\n"
SECRET = b"secret"


def of(data: bytes, is_secure: bool = False, is_of_proxy: bool = False) -> KeyedHead | None:
    return keyed_head(data, SECRET, is_secure, is_of_proxy, 1000)


def test_what_a_key_depends_on() -> None:
    """Requests have one key if they are the same to the byte, and come in the same way."""
    heads = [
        of(HEAD),
        of(HEAD.replace(b"dTpw", b"dTpx")),
        of(HEAD.replace(b"Host", b"HOST")),
        of(HEAD, is_secure=True),
        of(HEAD, is_of_proxy=True),
        keyed_head(HEAD, b"Secret", False, False, 1000),
    ]
    assert len({each.key for each in heads if each is not None}) == len(heads)
    assert of(HEAD) == heads[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD[:-1],
        HEAD + b"x",
        HEAD + HEAD,
        b"POST" + HEAD[3:],
        HEAD[:-2] + b"a" * 1000 + b"\r\n\r\n",
    ],
    ids=["nothing", "half", "more", "two", "method", "large"],
)
def test_what_is_not_one_head(data: bytes) -> None:
    """Only a whole head with nothing behind it has a key."""
    assert of(data) is None
    assert of(data, is_of_proxy=True) is None


TOLD = st.sampled_from([b"X-Request-ID: a", b"x-forwarded-for:192.0.2.1", b"X-Forwarded-For: ::1"])


@given(st.lists(TOLD, max_size=8))
def test_what_proxies_tell(told: list[bytes]) -> None:
    """What a trusted proxy tells of each request is no part of the key, and is reported; of
    others, it is part of the key like all else."""
    lines = b"".join(line + b"\r\n" for line in told)
    head = of(HEAD[:-2] + lines + b"\r\n", is_of_proxy=True)
    plain = of(HEAD, is_of_proxy=True)
    assert head is not None
    assert plain is not None
    assert head.key == plain.key
    assert (head.id == b"a") == (b"X-Request-ID: a" in told)
    assert len(head.hops) == sum(line.lower().startswith(b"x-for") for line in told)
    assert (of(HEAD[:-2] + lines + b"\r\n") == of(HEAD)) == (not told)


@given(st.binary(max_size=100))
def test_what_stands_behind_the_head(data: bytes) -> None:
    """Whatever comes behind a head, it is never mistaken for what proxies tell in it."""
    assert (of(HEAD + data, is_of_proxy=True) is None) == bool(data)
    assert of(HEAD + b"X-Request-ID: a\r\n", is_of_proxy=True) is None


def test_request_ids() -> None:
    """A proxy's ID is taken as it is if it can do no harm in a log or a header."""
    assert is_request_id(b"a.B-9_" * 10)
    assert not any(map(is_request_id, (b"", b"a b", b"a\n", b"a" * 65)))
