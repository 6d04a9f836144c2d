"""A daemon's API as tests tell it to be, and the command run in this process."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import attrs
import pytest

from nixery.cli.main import main

TOKEN = "operators-own-token"
Answer = tuple[int, Any]
"""A status, and a document for JSON, or bytes as they are."""


@attrs.define
class FakeApi:
    """A daemon that gives the answers it is told.

    :ivar answers: ``METHOD /path?query`` → what is answered; of a list, one after the other, and
        the last one again and again.
    :ivar asked: the requests, with their bodies.
    :ivar tokens: the tokens that came with them.
    :ivar location: where redirects lead.
    """

    url: str = ""
    answers: dict[str, Answer | list[Answer]] = attrs.Factory(dict)
    asked: list[tuple[str, Any]] = attrs.Factory(list)
    tokens: list[str | None] = attrs.Factory(list)
    location: str = ""

    def answer(self, what: str) -> Answer:
        found = self.answers.get(what)
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found or (404, refusal(f"there is nothing at {what}"))


def refusal(message: str) -> dict[str, Any]:
    """An error as the daemon answers it."""
    return {"errors": [{"code": "UNSUPPORTED", "message": message}]}


@contextmanager
def serving() -> Iterator[FakeApi]:
    """Serve a fake API until the block ends."""
    api = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            what = f"{self.command} {self.path}"
            api.asked.append((what, body))
            api.tokens.append(self.headers.get("Authorization"))
            status, document = api.answer(what)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 307:
                self.send_header("Location", api.location)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


@attrs.frozen
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def runner(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``nixery`` with arguments in this process."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nixery", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ran(code or 0, printed.out, printed.err)

    return run


def image(name: str, tag: str = "latest", **facts: Any) -> dict[str, Any]:
    """An image as the API has it."""
    known = {
        "digest": f"sha256:{abs(hash((name, tag))):064x}"[:71],
        "name": name,
        "tags": [tag],
        "platforms": ["linux/amd64"],
        "source": "the folder pkgs",
        "revision": "1" * 40,
        "size": 34_500_000,
        "made": 1.0,
        "pulls": 3,
        "pulled": 2.0,
    }
    return known | facts
