"""Limits that an operator sets: each is declared here, with the setting that it is read from."""

import attrs

from nixery.model.setting import number, setting, size


@attrs.frozen
class BuildLimits:
    """How much is built, and how much at the same time.

    :param at_once: Images that are built at the same time.
    :param waiting: Images that wait to be built, those of each client and network in turn; beyond
        that, answers are 429.
    :param seconds: Seconds that building an image may take, without its wait in the queue.
    :param memory: Most memory of a process of Nix or git, without builders: 500M, 4G.
    :param packages: Packages that an image may name.
    :param closure_size: Most bytes of an image's packages with all their dependencies: 500M, 20G.
    :param failure_ttl: Seconds for which a failed build is remembered, and the image not tried
        again.
    """

    at_once: int = setting("NIXERY_MAX_BUILDS=4", number(1, 1000))
    waiting: int = setting("NIXERY_MAX_QUEUE=200", number(0, 100_000))
    seconds: float = setting("NIXERY_BUILD_TIMEOUT=3600", number(1, 604800))
    memory: int = setting("NIXERY_NIX_MEMORY=4G", size(100_000_000))
    packages: int = setting("NIXERY_MAX_PACKAGES=64", number(1, 128))
    closure_size: int = setting("NIXERY_MAX_CLOSURE=20G", size(1))
    failure_ttl: float = setting("NIXERY_FAILURE_TTL=60", number(0, 86400, float))


@attrs.frozen
class HttpLimits:
    """How much clients may ask of the HTTP server.

    :param connections: Connections at the same time; for those beyond, idle ones of the client with
        the most are closed.
    :param client_connections: Connections of one client at the same time; for those beyond, its
        idle ones are closed.
    :param client_requests: Requests of one client that are answered at the same time; beyond that,
        answers are 429.
    :param header_seconds: Seconds that a request's headers may take to arrive.
    :param header_size: Most bytes of a request's headers: 32K.
    :param idle_seconds: Seconds for which a connection without a request is kept.
    :param write_seconds: Seconds within which a client must take some of what is sent to it.
    :param unread: bytes of pieces of answers that are in memory because clients have not taken
        them, and as many again of whole answers.
    :param client_unread: of these, those for one client.
    """

    connections: int = setting("NIXERY_MAX_CONNECTIONS=4000", number(10, 1_000_000))
    client_connections: int = setting("NIXERY_CLIENT_CONNECTIONS=256", number(1, 1_000_000))
    client_requests: int = setting("NIXERY_CLIENT_REQUESTS=128", number(1, 1_000_000))
    header_seconds: float = setting("NIXERY_HEADER_TIMEOUT=20", number(0.1, 3600, float))
    header_size: int = setting("NIXERY_HEADER_SIZE=32K", size(4000))
    idle_seconds: float = setting("NIXERY_IDLE_TIMEOUT=120", number(0.1, 86400, float))
    write_seconds: float = setting("NIXERY_WRITE_TIMEOUT=60", number(0.1, 86400, float))
    unread: int = 32 * 1024 * 1024
    client_unread: int = 4 * 1024 * 1024


@attrs.frozen
class DiskLimits:
    """How much is kept on this machine's disks.

    :param storage_max: Most that the filesystem storage may hold, as 500M or 20G; images that were
        not pulled for longest go first (no limit).
    :param storage_grace: Seconds for which an image is not dropped after it, or a part of it, was
        asked for.
    :param scrub_days: Days in which every blob on disk is verified once, in the background; 0 for
        never.
    :param nix_keep_days: Days for which Nix's garbage collector keeps an image's packages after
        they were last needed.
    :param nix_min_free: Room to keep free for the Nix store: with less, garbage is collected; 0 for
        never (5G for a store of Nixery's own, never for the machine's).
    """

    storage_max: int | None = setting("NIXERY_STORAGE_MAX", size(1))
    # What is being sent, or made, is marked as used every ten seconds.
    storage_grace: float = setting("NIXERY_STORAGE_GRACE=600", number(20, 604800, float))
    scrub_days: float = setting("NIXERY_SCRUB_DAYS=30", number(0, 36500, float))
    nix_keep_days: float = setting("NIXERY_NIX_KEEP_DAYS=30", number(0, 36500, float))
    nix_min_free: int | None = setting("NIXERY_NIX_MIN_FREE", size(0))


@attrs.frozen
class HistoryLimits:
    """How much history of builds is kept, and how long: bytes and seconds.

    :param seconds: Days for which a build's history is kept.
    :param bytes: Most megabytes that the history of builds takes on disk; the oldest goes first.
    """

    seconds: float = setting("NIXERY_HISTORY_DAYS=7", number(0, 36500, float, scale=86400))
    bytes: int = setting("NIXERY_HISTORY_SIZE=1000", number(1, 100_000_000, scale=1_000_000))
