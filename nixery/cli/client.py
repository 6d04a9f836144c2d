"""Requests to a daemon, by the standard library's client: others take longer to import than most
commands to run."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from ssl import SSLCertVerificationError
from types import MappingProxyType
from typing import Any, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import (
    BaseHandler,
    HTTPHandler,
    HTTPRedirectHandler,
    ProxyHandler,
    Request,
    build_opener,
)

from nixery.cli.exits import FAILED, NO_DAEMON, NOT_FOUND, USAGE, CommandFailed
from nixery.cli.places import Place

T = TypeVar("T")

_PATIENCE = 60.0
"""Seconds without a byte of an answer. Streams of events have a sign of life in between."""
_LONGEST = 64 * 1024 * 1024
"""Bytes of an answer: the list of the images that one daemon can know is shorter."""
_OPERATORS = "/api/"
"""Beginning of the paths that take the operator's token."""
_UNIX = "unix:"
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Client:
    """Asks one daemon."""

    def __init__(self, place: Place) -> None:
        """
        :raises CommandFailed: if there is no daemon, or its URL is none.
        """
        address = place.address()
        if address is None:
            raise place.absent()
        own: list[BaseHandler] = []
        if address.startswith(_UNIX):
            own, address = [_UnixHandler(address.removeprefix(_UNIX))], "http://localhost"
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailed(
                f"{address!r} is not the URL of a daemon; expected http:// or https://, and a host",
                USAGE,
            )
        self.address = address
        self._token = place.token()
        # A proxy is for other hosts; where it is not, it would see the token.
        if parts.hostname in _LOCAL:
            own.append(ProxyHandler({}))
        self._opener = build_opener(_Redirects(), *own)

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON document at a path.

        :raises CommandFailed: if there is none.
        """
        return self.ask("GET", path, **query)

    def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Make a request, and read the answer's JSON; None for an empty one.

        :param path: of the URL, quoted.
        :param body: is sent as JSON, unless it is None.
        :raises CommandFailed: if it is refused, or the daemon can't be reached.
        """
        with self.open(method, path, body, query=query) as answer:
            content = _reading(self.address, lambda: answer.read(_LONGEST))
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise CommandFailed(
                f"{self.address} does not answer with JSON; is it a Nixery daemon?", NO_DAEMON
            ) from None

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        accept: str = "application/json",
        query: Mapping[str, str | int] = MappingProxyType({}),
    ) -> HTTPResponse:
        """Make a request, and give the answer, whose body is still to be read.

        :raises CommandFailed: if it is refused, or the daemon can't be reached.
        """
        words = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items())
        content = None if body is None else json.dumps(body).encode("ascii")
        request = Request(f"{self.address}{path}{'?' * bool(words)}{words}", content, method=method)
        request.add_header("Accept", accept)
        if content is not None:
            request.add_header("Content-Type", "application/json")
        if self._token and path.startswith(_OPERATORS):
            # Elsewhere, it is not known. Where a redirect leads to another host, it stays here.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        opened = _reading(self.address, lambda: self._opener.open(request, timeout=_PATIENCE))
        return cast(HTTPResponse, opened)

    def lines(self, path: str, accept: str, **query: str | int) -> Iterator[bytes]:
        """The lines of an answer, as they come.

        :raises CommandFailed: if it is refused, or the daemon goes away.
        """
        with self.open("GET", path, accept=accept, query=query) as answer:
            while line := _reading(self.address, answer.readline):
                yield line


class _UnixConnection(HTTPConnection):
    """A connection to a UNIX socket."""

    def __init__(self, path: str, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixHandler(HTTPHandler):
    """Opens all URLs at a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def http_open(self, req: Request) -> HTTPResponse:
        def connect(host: str, timeout: float = _PATIENCE, **_: Any) -> HTTPConnection:
            return _UnixConnection(self._path, host, timeout)

        return self.do_open(connect, req)


class _Redirects(HTTPRedirectHandler):
    """Follows a daemon's redirects for as long as a build takes."""

    max_redirections = 10_000
    max_repeats = 10_000


def _reading(address: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except HTTPError as error:
        with error:
            raise _refused(error.url, error.code, error.reason, error.read(_LONGEST)) from None
    except (OSError, HTTPException) as error:
        reason: Any = error.reason if isinstance(error, URLError) else error
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        if isinstance(reason, SSLCertVerificationError):
            words += "; --url can name a host of its certificate, and SSL_CERT_FILE its authority"
        raise CommandFailed(f"{address} can't be reached: {words}", NO_DAEMON) from None


def _refused(url: str, status: int, reason: str, content: bytes) -> CommandFailed:
    """The end of a command whose request was refused, in the daemon's own words."""
    try:
        message = json.loads(content)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError):
        message = f"the daemon answers {status} {reason}"
    code = {401: NO_DAEMON, 403: NO_DAEMON, 404: NOT_FOUND, 405: NO_DAEMON, 429: NO_DAEMON}
    if status == 401 and urlsplit(url).path.startswith(_OPERATORS):
        message = f"{message}; name the file with the daemon's API token by --token-file"
    return CommandFailed(str(message), code.get(status, FAILED if status != 503 else NO_DAEMON))
