"""The heads of requests, before anything reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.http.asked_head import AskedHead, HeadReader
from nixery.http.request import NOBODY, Trusted, read_address

HEAD = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
PROXY = read_address("10.0.0.1")
PROXIES = Trusted.parse("10.0.0.0/8")


def direct(data: bytes, address: str = "192.0.2.1", is_secure: bool = False) -> AskedHead | None:
    return HeadReader(read_address(address), is_secure, NOBODY, 1000).read(data)


def proxied(*lines: str, most: int = 1000) -> AskedHead:
    head = HEAD[:-2] + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n"
    asked = HeadReader(PROXY, False, PROXIES, most).read(head)
    assert asked is not None
    return asked


def key(asked: AskedHead | None) -> bytes:
    assert asked is not None
    return asked.key


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\r\n\r\n", HEAD[:-1], HEAD + b"x", HEAD + HEAD, HEAD[:-4] + b"\n\n"),
        *(b"POST" + HEAD[3:], b"get" + HEAD[3:], b"\r\n" + HEAD, HEAD + b"\r\n\r\n"),
        HEAD[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n",
    ],
)
def test_unusual_requests(data: bytes) -> None:
    """Nothing but the whole head of a request without a body is looked up."""
    assert direct(HEAD) is not None
    assert direct(data) is None


def test_keys() -> None:
    """Heads that differ have different keys, and so have those that come in another way."""
    same = [direct(HEAD), direct(HEAD, "192.0.2.2")]
    others = [direct(HEAD, is_secure=True), direct(b"HEAD" + HEAD[3:]), proxied()]
    assert len({key(each) for each in same}) == 1
    assert len({key(each) for each in [*same, *others]}) == 1 + len(others)


def test_what_proxies_tell() -> None:
    """The address and the ID that a proxy tells are the request's, and not part of its key."""
    asked = proxied("X-Request-ID: first", "x-forwarded-for: 192.0.2.9, 10.0.0.2")
    assert (asked.sender, asked.network, asked.id) == ("192.0.2.9", "192.0.2.9", "first")
    other = proxied("X-FORWARDED-FOR: 2001:db8::7", "X-Request-Id:  last ", "Y: y")
    assert (other.sender, other.network) == ("2001:db8::7", "2001:db8::/64")
    assert other.id == "last"
    assert asked.key == proxied().key != other.key == proxied("Y: y").key
    assert (proxied().sender, proxied().id) == ("10.0.0.1", None)


def test_what_others_tell() -> None:
    """Of whoever is no trusted proxy, nothing is believed."""
    asked = direct(HEAD[:-2] + b"X-Forwarded-For: 192.0.2.9\r\nX-Request-ID: x\r\n\r\n")
    assert asked is not None
    assert (asked.sender, asked.id) == ("192.0.2.1", None)
    assert asked.key != key(direct(HEAD))


@pytest.mark.parametrize(
    "lines",
    [["X-Request-ID: \x01"], ["X-Request-ID : x"], [" X-Request-ID: x"], ["X-Request-ID"]],
)
def test_lines_that_are_none(lines: list[str]) -> None:
    """What would be refused is not taken for what a proxy tells."""
    assert proxied(*lines).key != proxied().key


def test_many_lines() -> None:
    """A head may not be larger because proxies tell much."""
    many = HEAD[:-2] + b"X-Forwarded-For: x\r\n" * 9 + b"\r\n"
    assert HeadReader(PROXY, False, PROXIES, 1000).read(many) is None
    long = HEAD[:-2] + b"X-Forwarded-For: " + b"1" * 1000 + b"\r\n\r\n"
    assert HeadReader(PROXY, False, PROXIES, 1000).read(long) is None


def test_unix_sockets() -> None:
    """Clients of a UNIX socket have no address."""
    asked = HeadReader(None, False, NOBODY, 1000).read(HEAD)
    assert asked is not None
    assert asked.sender == asked.network == "unix"


@given(st.binary())
def test_anything(data: bytes) -> None:
    """Whatever comes, it is read or not, and harms nothing."""
    for reader in (HeadReader(PROXY, True, PROXIES, 100), HeadReader(None, False, NOBODY, 100)):
        reader.read(data)
        reader.read(b"GET " + data + b"\r\n\r\n")
