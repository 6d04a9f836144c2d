"""Keys of requests: what stands for a request whose answer is known.

The key is a digest of the request's head, byte for byte: that has all that decides about an answer
(method, path, version, credentials, conditions, ranges), and the digest keeps no password.
"""

from hashlib import blake2b

PLAIN = b"plain"
"""The kind of connections that are spoken on in plain HTTP, and not with a trusted proxy."""
KEY_SIZE = 32


def request_key(secret: bytes, head: bytes, kind: bytes) -> bytes:
    """The key of a request.

    :param secret: without it nobody can tell from the key what the request was.
    :param kind: of the connection.
    """
    return blake2b(head, digest_size=KEY_SIZE, key=secret, salt=kind).digest()
