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
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.threads import deferToThread

from nixery.access.watched import FileInvalid, Watched
from nixery.storage.memory import MemoryStorage
from nixery.web.pages.site import PagesApi
from nixery.web.site import make_site
from nixery.web.tls import (
    Certificate,
    Pair,
    TLSEndpoint,
    read_certificate,
    split_endpoint,
    watch_pair,
)
from tests.web.certificates import make_pair
from tests.web.server import FakeBuilder, reactor


@attrs.frozen
class Place:
    """A registry that speaks TLS."""

    port: int
    watched: Watched[Certificate]

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
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            shown = x509.load_der_x509_certificate(secure.getpeercert(True) or b"")
            return shown.subject.rfc4514_string(), secure.recv(15)


@asynccontextmanager
async def serving(pair: Pair) -> AsyncIterator[Place]:
    """Serve over TLS for the length of a block."""
    watched = watch_pair(pair)
    builder = FakeBuilder()
    pages = PagesApi(reactor, builder, None, False)
    site = make_site(reactor, builder, MemoryStorage(), 25, pages)
    below = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await TLSEndpoint(below, watched).listen(site)
    try:
        yield Place(port.getHost().port, watched)  # type: ignore[attr-defined]
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


@pytest_twisted.ensureDeferred
async def test_versions(tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 are spoken, older versions are not."""
    async with serving(make_pair(tmp_path)) as place:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            assert (await place.ask(minimum_version=version, maximum_version=version))[1]
        old = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await place.ask(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=old)


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
