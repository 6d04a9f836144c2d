"""Requests to a daemon."""

import socket
import socketserver
import ssl
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest

from tests.cli.fake_api import FakeApi, Run, serving
from tests.web.certificates import make_pair

FIRST = "GET /api/images?n=10000&after="


def test_a_unix_socket(run: Run, state: Path) -> None:
    """A daemon that listens on a UNIX socket is asked there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"images": []}')

        def log_message(self, *_: Any) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    path = state / "socket"
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        (state / "api-address").write_text(f"unix:{path}\n")
        thread = Thread(target=server.handle_request)
        thread.start()
        ran = run("list", "--json")
        thread.join()
    assert (ran.code, ran.err) == (0, "")


def test_a_redirect_elsewhere(run: Run, api: FakeApi) -> None:
    """Who redirects a request to another host does not get the token there."""
    with serving() as other:
        other.answers[FIRST] = 200, {"images": []}
        api.answers[FIRST] = 307, b""
        api.location = f"{other.url}/api/images?n=10000&after="
        assert run("list", "--json").code == 0
        assert [token is None for token in (*api.tokens, *other.tokens)] == [False, True]


def test_a_proxy(run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of this machine is asked without the proxy for other hosts."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    api.answers[FIRST] = 200, {"images": []}
    assert run("list").code == 0


def test_an_answer_that_ends_early(run: Run, api: FakeApi) -> None:
    """An answer that is cut is no answer."""
    api.answers[FIRST] = 200, b'{"images": ['
    ran = run("list")
    assert ran.code == 4


def test_a_certificate_that_is_not_trusted(run: Run, state: Path) -> None:
    """A daemon whose certificate is not trusted is not asked; what helps is told."""
    certificate, key = attrs.astuple(make_pair(state))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            connection, _ = listening.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as spoken:
                spoken.recv(1)
            connection.close()

        thread = Thread(target=refuse)
        thread.start()
        (state / "api-address").write_text(f"https://localhost:{listening.getsockname()[1]}\n")
        ran = run("list")
        thread.join()
    assert ran.code == 4
    assert "--url can name a host of its certificate, and SSL_CERT_FILE its authority" in ran.err
