"""What an operator bounds."""

import attrs


@attrs.frozen
class BuildLimits:
    """How much is made, and how much of it at once.

    :param at_once: images that are made at the same time.
    :param waiting: images that wait for their turn.
    :param seconds: that making one image may take, from its turn on.
    :param memory: bytes that each process of Nix may have, without its builders.
    :param packages: that one image may name.
    :param closure_size: bytes of all store paths of an image, unpacked.
    :param failure_ttl: seconds that a failure is remembered.
    """

    at_once: int = 4
    waiting: int = 200
    seconds: float = 3600
    memory: int = 4_000_000_000
    packages: int = 64
    closure_size: int = 20_000_000_000
    failure_ttl: float = 60


@attrs.frozen
class HttpLimits:
    """How much clients may ask of the HTTP server.

    :param connections: that are open at the same time.
    :param client_connections: of these, that one client may have.
    :param client_requests: of one client that are being answered at the same time.
    :param header_seconds: from a request's first byte to the end of its headers.
    :param header_size: bytes of a request's first line and headers.
    :param idle_seconds: that a connection without a request is kept.
    :param write_seconds: in which a client takes some of what is sent to it.
    :param unread: bytes of pieces of answers that are in memory since clients have not taken
        them, and as many again of whole answers.
    :param client_unread: of these, that are for one client.
    """

    connections: int = 4000
    client_connections: int = 256
    client_requests: int = 128
    header_seconds: float = 20
    header_size: int = 32_000
    idle_seconds: float = 120
    write_seconds: float = 60
    unread: int = 32 * 1024 * 1024
    client_unread: int = 4 * 1024 * 1024


@attrs.frozen
class DiskLimits:
    """How much is kept on this machine's disks.

    :param storage_max: bytes of the filesystem storage; none for no bound.
    :param storage_grace: seconds after its last use in which nothing of an image is dropped.
    :param scrub_days: in which every blob is verified once; 0 for never.
    :param nix_keep_days: that the store paths of an image are kept after it was made.
    :param nix_min_free: bytes that are to be free on the Nix store's disk: below that, store
        paths which nobody keeps are collected. None for a default that depends on the store.
    """

    storage_max: int | None = None
    storage_grace: float = 600
    scrub_days: float = 30
    nix_keep_days: float = 30
    nix_min_free: int | None = None
