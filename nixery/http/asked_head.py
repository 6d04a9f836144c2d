"""The head of a request, before anything reads it: what stands for it, and whom it counts for."""

import re
import secrets
from hashlib import blake2b

import attrs

from nixery.http.request import Address, Trusted, id_from, sender_of
from nixery.model.networks import network_of

_END = b"\r\n\r\n"
_MOST_TOLD = 8
"""Lines of a head in which proxies tell about its request."""
# With control characters in it, a line is refused.
_TOLD = re.compile(
    rb"\r\n(x-request-id|x-forwarded-for):([^\x00-\x08\x0a-\x1f\x7f]*)(?=\r\n)", re.IGNORECASE
)


@attrs.frozen
class AskedHead:
    """The head of a request that has come whole and alone.

    :param key: stands for it, but for what differs from request to request.
    :param sender: see :attr:`nixery.http.request.RegistryRequest.sender`.
    :param network: of the sender.
    :param id: the request's, if a trusted proxy gave it one.
    """

    key: bytes
    sender: str
    network: str
    id: str | None = None


class HeadReader:
    """Reads the heads of a connection's requests."""

    _secret = secrets.token_bytes(32)

    def __init__(self, peer: Address | None, is_secure: bool, trusted: Trusted, most: int) -> None:
        """
        :param peer: the other end; none for a UNIX socket.
        :param is_secure: whether TLS is spoken.
        :param most: bytes of a head.
        """
        self._peer, self._trusted, self._most = peer, trusted, most
        self._is_of_proxy = peer in trusted
        self._salt = b"%d%d" % (is_secure, self._is_of_proxy)
        self._sender = sender_of(peer, (), trusted)
        self._network = network_of(self._sender)

    def read(self, data: bytes) -> AskedHead | None:
        """Read what has come when no request was under way.

        :return: none for anything but one head of a request without a body.
        """
        is_alone = data.find(_END) == len(data) - len(_END)
        if not is_alone or not data.startswith((b"GET ", b"HEAD ")) or len(data) > self._most:
            return None
        if not self._is_of_proxy:
            return AskedHead(self._key(data), self._sender, self._network)
        told = _TOLD.findall(data)
        if len(told) > _MOST_TOLD:
            return None
        ids = [value for name, value in told if len(name) == len(b"x-request-id")]
        hops = [value for name, value in told if len(name) == len(b"x-forwarded-for")]
        sender = sender_of(self._peer, hops, self._trusted)
        id = id_from(ids[-1].strip(b" \t")) if ids else None
        return AskedHead(self._key(_TOLD.sub(b"", data)), sender, network_of(sender), id)

    def _key(self, head: bytes) -> bytes:
        """A digest that nobody else can compute: the head may hold a password."""
        return blake2b(head, digest_size=32, key=self._secret, salt=self._salt).digest()
