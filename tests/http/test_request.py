"""Whom a request comes from, behind proxies and not."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.web.http_headers import Headers
from twisted.web.test.requesthelper import DummyChannel

from nixery.http.request import (
    RegistryRequest,
    Trusted,
)

PROXY = "10.0.0.1"
TRUSTED = Trusted.parse("10.0.0.0/8, 2001:db8::1")


class Behind(RegistryRequest):
    """A request from a peer of the test's choice."""

    peer: IPv4Address | IPv6Address | UNIXAddress
    believed: Trusted = TRUSTED

    def getClientAddress(self) -> IPv4Address | IPv6Address | UNIXAddress:
        return self.peer

    @property
    def trusted(self) -> Trusted:
        return self.believed


def request(peer: str = PROXY, **headers: str | list[str]) -> Behind:
    made = Behind(DummyChannel(), False)
    kind = IPv6Address if ":" in peer else IPv4Address
    made.peer = kind("TCP", peer, 1234)
    lines = {name.replace("_", "-"): each for name, each in headers.items()}
    raw = {name: [each] if isinstance(each, str) else each for name, each in lines.items()}
    made.requestHeaders = Headers({"host": ["asked:8080"], **raw})
    return made


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (PROXY, "192.0.2.1", "192.0.2.1"),
        (PROXY, "198.51.100.1, 192.0.2.1", "192.0.2.1"),
        (PROXY, "198.51.100.1, 192.0.2.1, 10.9.9.9", "192.0.2.1"),
        (PROXY, ["198.51.100.1", "192.0.2.1,10.9.9.9"], "192.0.2.1"),
        (PROXY, "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        (PROXY, "192.0.2.1:4321", "192.0.2.1"),
        (PROXY, "[2001:db8::2]:4321", "2001:db8::2"),
        (PROXY, "::ffff:192.0.2.1", "192.0.2.1"),
        (PROXY, "192.0.2.1, unknown", PROXY),
        (PROXY, "192.0.2.1, <x>, 10.9.9.9", "10.9.9.9"),
        (PROXY, "", PROXY),
        (PROXY, [], PROXY),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8::2", "192.0.2.1", "2001:db8::2"),
        ("192.0.2.9", "192.0.2.1", "192.0.2.9"),
    ],
)
def test_client(peer: str, forwarded: str | list[str], client: str) -> None:
    """The client is the nearest address that is no trusted proxy's."""
    assert request(peer, x_forwarded_for=forwarded).sender == client


def test_origin() -> None:
    """Only a trusted proxy says under which address the client sees the registry."""
    said = {"x_forwarded_proto": "https", "x_forwarded_host": "registry.example"}
    assert request(**said).origin == "https://registry.example"
    assert request(**said).asked_host == "registry.example"
    assert request("192.0.2.9", **said).origin == "http://asked:8080"
    assert request().origin == "http://asked:8080"
    chained = request(x_forwarded_proto="http, https", x_forwarded_host=["a", "b"])
    assert chained.origin == "https://b"


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        (IPv4Address("TCP", "192.0.2.7", 8080), "http://192.0.2.7:8080"),
        (IPv6Address("TCP", "2001:db8::7", 80), "http://[2001:db8::7]:80"),
        (UNIXAddress("/run/socket"), "http://localhost"),
    ],
)
def test_origin_without_host(address: Any, origin: str) -> None:
    """Who names no host, as in HTTP/1.0, is told the address at which the request came in."""
    made = request()
    made.requestHeaders.removeHeader("host")
    made.getHost = lambda: address  # type: ignore[method-assign]
    assert made.origin == origin


@pytest.mark.parametrize("said", ['a"b', "a/b", "a b", "a\x00", "", "a@b", "é"])
def test_origins_that_are_none(said: str) -> None:
    """What is no scheme or host is not believed of anybody."""
    forwarded = request(x_forwarded_proto=said, x_forwarded_host=said)
    assert forwarded.origin == "http://asked:8080"


def test_sockets() -> None:
    """Whoever connects over a UNIX socket is a proxy if the word says so."""
    for word, client in (("", "unix"), ("unix", "192.0.2.1")):
        made = request(x_forwarded_for="192.0.2.1")
        made.peer = UNIXAddress(None)
        made.believed = Trusted.parse(word)
        assert made.sender == client


def test_nobody_is_trusted_by_default() -> None:
    """Without the setting, no header is believed, not even from this machine."""
    made = request("127.0.0.1", x_forwarded_for="192.0.2.1", x_forwarded_proto="https")
    made.believed = Trusted.parse("")
    assert (made.sender, made.origin) == ("127.0.0.1", "http://asked:8080")


LINES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)
HOPS = st.sampled_from(
    ["10.0.0.7", "192.0.2.1", "::1", "[::1]:1", "x", "", "1.2.3.4:5", "fe80::1%x"]
)


@given(LINES | st.lists(HOPS).map(", ".join))
def test_any_header(line: str) -> None:
    """Whatever a header says, there is an address, and nothing goes wrong."""
    for peer in (PROXY, "192.0.2.9"):
        client = request(peer, x_forwarded_for=line).sender
        assert ip_address(client)
        assert peer == PROXY or client == peer
