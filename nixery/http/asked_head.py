"""The head of a request, before anything reads it: what stands for it, and whom it counts for."""

import secrets
from collections.abc import Sequence

import attrs

from nixery.http.request import Address, Trusted, id_from, sender_of
from nixery.model.networks import network_of
from nixery.model.request_key import keyed_head

SECRET = secrets.token_bytes(32)
"""Makes the keys of requests."""


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
    """Reads the heads of a connection's requests.

    :ivar is_of_proxy: whether it is one with a trusted proxy.
    """

    def __init__(self, peer: Address | None, is_secure: bool, trusted: Trusted, most: int) -> None:
        """
        :param peer: the other end; none for a UNIX socket.
        :param is_secure: whether TLS is spoken.
        :param most: bytes of a head.
        """
        self._peer, self._trusted, self._most = peer, trusted, most
        self.is_of_proxy = peer in trusted
        self._is_secure = is_secure
        self._sender = sender_of(peer, (), trusted)
        self._network = network_of(self._sender)

    def read(self, data: bytes) -> AskedHead | None:
        """Read what has come when no request was under way.

        :return: none for anything but one head of a request without a body.
        """
        head = keyed_head(data, SECRET, self._is_secure, self.is_of_proxy, self._most)
        if head is None or not self.is_of_proxy:
            return None if head is None else AskedHead(head.key, self._sender, self._network)
        sender = self.sender(head.hops)
        id = None if head.id is None else id_from(head.id)
        return AskedHead(head.key, sender, network_of(sender), id)

    def sender(self, hops: Sequence[bytes]) -> str:
        """The address of a client.

        :param hops: the addresses that a trusted proxy has named.
        """
        return sender_of(self._peer, hops, self._trusted) if hops else self._sender
