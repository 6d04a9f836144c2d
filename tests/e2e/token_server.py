"""A token server as docker's clients know it, small: one user, and what he may pull."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs

from tests.access.signing import Signer

USER, PASSWORD = "alice", "secret"


@attrs.define
class TokenServer:
    """A running server.

    :ivar changed: claims that are changed of the tokens that it makes.
    :ivar asked: the scopes that it was asked for.
    """

    signer: Signer
    allowed: set[str]
    port: int = 0
    changed: dict[str, Any] = attrs.Factory(dict)
    asked: list[str] = attrs.Factory(list)

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    def token(self, user: str, scopes: list[str]) -> str:
        """A token for what may be pulled of what was asked for."""
        self.asked += scopes
        names = {scope.split(":")[1] for scope in scopes if scope.startswith("repository:")}
        granted = names & self.allowed if user else set()
        return self.signer.token(*sorted(granted), sub=user, **self.changed)


@contextmanager
def token_server(signer: Signer, *allowed: str) -> Iterator[TokenServer]:
    """Run a token server for the length of a block."""
    server = TokenServer(signer, set(allowed))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = self.headers.get("Authorization", "")
            right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if header not in ("", f"Basic {right}"):
                self.send_error(401)
                return
            query = parse_qs(urlsplit(self.path).query)
            scopes = [each for scope in query.get("scope", []) for each in scope.split(" ")]
            token = server.token(USER if header else "", scopes)
            body = json.dumps({"token": token, "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
