"""TLS, and certificates that are renewed."""

import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.threads import deferToThread

from nixery.access.watched import FileInvalid, Watched
from nixery.http.tls import (
    SENTENCE,
    Certificate,
    Pair,
    TLSEndpoint,
    read_certificate,
    split_endpoint,
    watch_pair,
)
from nixery.model.limits import HttpLimits
from nixery.storage.memory import MemoryStorage
from nixery.web.pages.api import PagesApi
from nixery.web.site import QuietSite, make_site
from tests.waiting import HUNG, until
from tests.web.certificates import make_pair
from tests.web.server import LIMITS, Collector, FakeBuilder, reactor

pytestmark = pytest.mark.program


@attrs.frozen
class Place:
    """A registry that speaks TLS."""

    port: int
    watched: Watched[Certificate]
    site: QuietSite

    async def say(self, data: bytes) -> bytes:
        """What comes, without TLS, until the connection is closed."""
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        collector = await connectProtocol(endpoint, Collector())
        collector.transport.write(data)
        received: bytes = await collector.closed
        return received

    async def ask(self, **limits: ssl.TLSVersion) -> tuple[str, bytes]:
        """The name in the certificate that is shown, and the answer's first bytes."""
        found: tuple[str, bytes] = await deferToThread(self._ask, limits)
        return found

    def _ask(self, limits: dict[str, ssl.TLSVersion]) -> tuple[str, bytes]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the server that refuses
        context.set_alpn_protocols(["h2", "http/1.1"])
        for name, version in limits.items():
            setattr(context, name, version)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=HUNG) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            shown = x509.load_der_x509_certificate(secure.getpeercert(True) or b"")
            return shown.subject.rfc4514_string(), secure.recv(15)


@asynccontextmanager
async def serving(pair: Pair, limits: HttpLimits = LIMITS) -> AsyncIterator[Place]:
    """Serve over TLS for the length of a block."""
    watched = watch_pair(pair)
    builder = FakeBuilder()
    pages = PagesApi()
    site = make_site(reactor, builder, MemoryStorage(), 25, pages, limits=limits)
    below = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await TLSEndpoint(below, watched).listen(site)
    try:
        yield Place(port.getHost().port, watched, site)  # type: ignore[attr-defined]
    finally:
        await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_renewed(tmp_path: Path) -> None:
    """New connections get the certificate that was renewed; one that is broken is not taken."""
    async with serving(make_pair(tmp_path, "old")) as place:
        assert await place.ask() == ("CN=old", b"HTTP/1.1 200 OK")
        make_pair(tmp_path, "new")
        place.watched.look()
        place.watched.look()
        assert await place.ask() == ("CN=new", b"HTTP/1.1 200 OK")
        (tmp_path / "cert.pem").write_text("broken")
        place.watched.look(force=True)
        assert (await place.ask())[0] == "CN=new"
        assert place.site.known.given == 2  # known answers are for old and new alike


@pytest_twisted.ensureDeferred
async def test_versions(tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 are spoken, older versions are not."""
    async with serving(make_pair(tmp_path)) as place:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert (await place.ask(minimum_version=version, maximum_version=version))[1]
        old = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await place.ask(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=old)


PLAIN = {
    "a request": b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "two requests": 2 * b"GET /v2/known/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.0\r\n\r\n",
    "a body": b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
    "docker without a host": b"GET /v2/ HTTP/1.0\r\nUser-Agent: docker/1\r\n\r\n",
    "docker and another host": b"GET /v2/ HTTP/1.1\r\nHost: x/y\r\nUser-Agent: docker/1\r\n\r\n",
    "docker writes": b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nUser-Agent: docker/1\r\n\r\n",
    "docker in absolute form": b"GET http:// HTTP/1.1\r\nHost: x\r\nUser-Agent: docker/1\r\n\r\n",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
async def test_plain_http(tmp_path: Path, data: bytes) -> None:
    """Who speaks plain HTTP where TLS is spoken is told so, and gets nothing else."""
    async with serving(make_pair(tmp_path)) as place:
        received = await place.say(data)
        assert received.startswith(b"HTTP/1.")
        assert received[8:13] == b" 400 "
        assert received.count(b"HTTP/1.") == 1
        assert received.endswith(b'"message": "' + SENTENCE.encode() + _REST)
        assert b"\r\nConnection: close\r\n" in received
        await until(lambda: place.site.bounds.connections.open == 0)
        assert place.site.bounds.refused == {"plain": 1}
        assert await place.ask() == ("CN=localhost", b"HTTP/1.1 200 OK")


_REST = b'", "detail": null}]}'


@pytest_twisted.ensureDeferred
async def test_plain_docker(tmp_path: Path) -> None:
    """Docker, which tries in plain HTTP again what was refused over TLS, is sent back."""
    request = b"GET /v2/?a=b HTTP/1.1\r\nHost: x:1\r\nUser-Agent: docker/26.1.5 go/1\r\n\r\n"
    async with serving(make_pair(tmp_path)) as place:
        received = await place.say(request)
        assert received.startswith(b"HTTP/1.1 307 ")
        assert b"\r\nLocation: https://x:1/v2/?a=b\r\n" in received
        assert b"\r\nConnection: close\r\n" in received


@pytest_twisted.ensureDeferred
async def test_plain_and_slow(tmp_path: Path) -> None:
    """Plain HTTP has the limits of other connections: in time, in size and in number."""
    pair = make_pair(tmp_path)
    async with serving(pair, HttpLimits(header_seconds=1, client_connections=1)) as place:
        # One that does not even begin in its time is closed without a word.
        while not (answer := await place.say(b"GET /v2/ HTTP")):
            pass
        assert b" 408 " in answer[:13]
        await until(lambda: place.site.bounds.connections.open == 0)
    async with serving(pair, HttpLimits(client_connections=1)) as place:
        assert b" 414 " in (await place.say(b"x" * 100_000))[:13]
        await until(lambda: place.site.bounds.connections.open == 0)


@pytest_twisted.ensureDeferred
async def test_noise(tmp_path: Path) -> None:
    """What is neither TLS nor plain HTTP is hung up on."""
    async with serving(make_pair(tmp_path)) as place:
        assert await place.say(b"\x00\x01\x02\x03\x04\x05") in (b"", _PROTOCOL_ALERT)


_PROTOCOL_ALERT = bytes.fromhex("15030100020246")


def test_expiry(tmp_path: Path) -> None:
    """Of a chain, the certificate that expires first is what counts."""
    (tmp_path / "long").mkdir()
    pair, signer = make_pair(tmp_path), make_pair(tmp_path / "long", days=20)
    in_two_days = time.time() + 2 * 86400
    assert abs(read_certificate(pair).expires - in_two_days) < 600
    chain = tmp_path / "chain.pem"
    chain.write_bytes(Path(signer.certificate).read_bytes() + Path(pair.certificate).read_bytes())
    assert read_certificate(Pair(str(chain), signer.key)).expires == read_certificate(pair).expires


def test_pairs_that_do_not_fit(tmp_path: Path) -> None:
    """A key of another certificate, or none, is a fault, and nobody is asked for a password."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = make_pair(tmp_path / "a"), make_pair(tmp_path / "b")
    for pair in (Pair(one.certificate, other.key), Pair(one.key, one.certificate)):
        with pytest.raises(FileInvalid):
            read_certificate(pair)
    with pytest.raises(FileInvalid):
        watch_pair(Pair(one.certificate, "/no/such"))


def test_encrypted_keys(tmp_path: Path) -> None:
    """A key that is encrypted is a fault: nobody is there to type a password."""
    pair = make_pair(tmp_path)
    locked = str(tmp_path / "locked.pem")
    command = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", pair.key, "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(FileInvalid):
        read_certificate(Pair(pair.certificate, locked))


def test_endpoint_strings() -> None:
    """Twisted's strings for TLS are understood, with all but what is hardly ever used."""
    both = split_endpoint("ssl:443:privateKey=/k.pem:certKey=/c.pem:interface=\\:\\:")
    assert both == ("tcp:443:interface=\\:\\:", Pair("/c.pem", "/k.pem"))
    assert split_endpoint("ssl:port=1:privateKey=/k\\:.pem") == (
        "tcp:port=1",
        Pair("/k:.pem", "/k:.pem"),
    )
    for other in ("tcp:80", "unix:/run/x", "systemd:domain=INET:index=0"):
        assert split_endpoint(other) == (other, None)
    with pytest.raises(ValueError, match="sslmethod"):
        split_endpoint("ssl:443:sslmethod=SSLv3_METHOD")
