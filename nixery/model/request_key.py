"""Keys of requests: what stands for a request whose answer is known: pure.

The key is a digest of the request's head, byte for byte: that has all that decides about an answer
(method, path, version, credentials, conditions, ranges), and a digest keeps no password. What a
trusted proxy tells anew of each request is no part of it.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

_END = b"\r\n\r\n"
_MOST_TOLD = 8
"""Lines of a head in which proxies tell about its request."""
# With control characters in it, a line is refused.
_TOLD = re.compile(
    rb"\r\n(x-request-id|x-forwarded-for):([^\x00-\x08\x0a-\x1f\x7f]*)(?=\r\n)", re.IGNORECASE
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class KeyedHead(NamedTuple):
    """The head of a request that has come whole and alone.

    :param key: stands for it.
    :param id: what a trusted proxy gives for the request's ID, if it does.
    :param hops: the values of its ``X-Forwarded-For`` headers, if it is a trusted proxy's.
    """

    key: bytes
    id: bytes | None = None
    hops: Sequence[bytes] = ()


def keyed_head(
    data: bytes, secret: bytes, is_secure: bool, is_of_proxy: bool, most: int
) -> KeyedHead | None:
    """Read what has come when no request was under way.

    :param secret: without it nobody can tell from the key what the request was.
    :param is_secure: whether TLS is spoken.
    :param is_of_proxy: whether it comes from a trusted proxy.
    :param most: bytes of a head.
    :return: none for anything but one head of a request without a body.
    """
    is_alone = data.find(_END) == len(data) - len(_END)
    if not is_alone or not data.startswith((b"GET ", b"HEAD ")) or len(data) > most:
        return None
    salt = b"%d%d" % (is_secure, is_of_proxy)
    if not is_of_proxy:
        return KeyedHead(_key(data, secret, salt))
    told = _TOLD.findall(data)
    if len(told) > _MOST_TOLD:
        return None
    ids = [value for name, value in told if len(name) == len(b"x-request-id")]
    hops = [value for name, value in told if len(name) == len(b"x-forwarded-for")]
    id = ids[-1].strip(b" \t") if ids else None
    return KeyedHead(_key(_TOLD.sub(b"", data), secret, salt), id, hops)


def is_request_id(said: bytes) -> bool:
    """Whether an ID that a proxy gives to a request can be its ID."""
    return _REQUEST_ID.fullmatch(said) is not None


def _key(head: bytes, secret: bytes, salt: bytes) -> bytes:
    return blake2b(head, digest_size=32, key=secret, salt=salt).digest()
