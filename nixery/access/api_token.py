"""The token of operators: who shows it may ask for more than pulls.

Where no file is named, the daemon makes one in its state folder, beside one with its address: so
programs of the same user on the same machine find both.
"""

import contextlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from hashlib import sha256

from twisted.logger import Logger

from nixery.access.watched import FileInvalid, read_text
from nixery.model.request_errors import Unauthorized
from nixery.reactor import IReactor, in_thread
from nixery.state_folder import API_ADDRESS, API_TOKEN

_TOKEN = re.compile(r"[!-~]{16,4096}")
_BEARER = re.compile(r"bearer +([!-~]+) *", re.IGNORECASE)


def read_secret(path: str) -> str:
    """Read a file with a secret in one line. Blocks.

    :raises FileInvalid: if there is something else in it, of which nothing is told.
    :raises OSError: if it can't be read.
    """
    secret = read_text(path).strip()
    if _TOKEN.fullmatch(secret) is None:
        raise FileInvalid("holds no secret; expected one line of 16 ASCII characters or more")
    return secret


def bearer_token(header: str) -> str:
    """The token of an ``Authorization`` header; empty if there is none."""
    match = _BEARER.fullmatch(header)
    return "" if match is None else match[1]


def is_same(secret: str, other: str) -> bool:
    """Whether two secrets are the same; how long it takes tells nothing of either."""
    digests = (sha256(each.encode("utf-8", "replace")).digest() for each in (secret, other))
    return hmac.compare_digest(*digests)


class OperatorAccess:
    """Knows operators by their token."""

    _log = Logger()

    def __init__(self, reactor: IReactor, state: str, token: Callable[[], str] | None) -> None:
        """
        :param state: the state folder.
        :param token: gives the present token; without it, one is made in the state folder.
        """
        self._reactor = reactor
        self._state = state
        self._token = token
        self._written: int | None = None  # the inode of the file with the address

    async def start(self) -> None:
        """Have a token. Where there can be none, nobody is an operator."""
        if self._token is None:
            try:
                own = await in_thread(self._reactor, _own_token, self._path(API_TOKEN))
            except (OSError, FileInvalid) as error:
                self._log.warn("nobody may use the API: no token: {error}", error=str(error))
                return
            self._token = lambda: own

    async def listens(self, url: str) -> None:
        """Tell programs of this machine where the daemon is to be reached."""
        path = self._path(API_ADDRESS)
        try:
            self._written = await in_thread(self._reactor, _write, path, url)
        except OSError as error:
            self._log.warn("the daemon's address can't be written: {error}", error=str(error))

    async def stop(self) -> None:
        """Take the address away, unless another daemon is there already."""
        if self._written is not None:
            await in_thread(self._reactor, _remove, self._path(API_ADDRESS), self._written)

    def check(self, header: str) -> None:
        """Check that a request is an operator's.

        :param header: its ``Authorization`` header, or nothing.
        :raises Unauthorized: if it is not.
        """
        shown = bearer_token(header)
        if not shown:
            raise Unauthorized("the API wants the operator's token, as a bearer token")
        if self._token is None or not is_same(shown, self._token()):
            raise Unauthorized("that is not the API's token")

    def _path(self, name: str) -> str:
        return os.path.join(self._state, name)


def _own_token(path: str) -> str:
    """The token in a file of the state folder, made if there is none. Blocks."""
    with contextlib.suppress(FileExistsError):
        beside = f"{path}.{secrets.token_hex(8)}.new"
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(file, "w", encoding="ascii") as text:
                text.write(f"{secrets.token_urlsafe(32)}\n")
            os.link(beside, path)  # unlike a rename, over nothing
        finally:
            os.unlink(beside)
    return read_secret(path)


def _write(path: str, url: str) -> int:
    """Write a file with an address. Blocks.

    :return: its inode: another daemon may write the same address.
    """
    beside = f"{path}.{os.getpid()}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(f"{url}\n")
        inode = os.fstat(file.fileno()).st_ino
    os.replace(beside, path)
    return inode


def _remove(path: str, inode: int) -> None:
    """Remove a file, unless another one is in its place. Blocks."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
