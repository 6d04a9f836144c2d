"""Limits that an operator sets: each is declared here, with the setting that it is read from."""

import attrs

from nixery.model.setting import number, setting, size


@attrs.frozen
class BuildLimits:
    """How much is built, and how much at the same time."""

    at_once: int = setting(
        "NIXERY_MAX_BUILDS", "Images that are built at the same time.", number(1, 1000), "4"
    )
    waiting: int = setting(
        "NIXERY_MAX_QUEUE",
        "Images that wait to be built, those of each client and network in turn; beyond that, "
        "answers are 429.",
        number(0, 100_000),
        "200",
    )
    seconds: float = setting(
        "NIXERY_BUILD_TIMEOUT",
        "Seconds that building an image may take, without its wait in the queue.",
        number(1, 604800),
        "3600",
    )
    memory: int = setting(
        "NIXERY_NIX_MEMORY",
        "Most memory of a process of Nix or git, without builders: 500M, 4G.",
        size(100_000_000),
        "4G",
    )
    packages: int = setting(
        "NIXERY_MAX_PACKAGES", "Packages that an image may name.", number(1, 128), "64"
    )
    closure_size: int = setting(
        "NIXERY_MAX_CLOSURE",
        "Most bytes of an image's packages with all their dependencies: 500M, 20G.",
        size(1),
        "20G",
    )
    failure_ttl: float = setting(
        "NIXERY_FAILURE_TTL",
        "Seconds for which a failed build is remembered, and the image not tried again.",
        number(0, 86400, float),
        "60",
    )


@attrs.frozen
class HttpLimits:
    """How much clients may ask of the HTTP server.

    :param unread: bytes of pieces of answers that are in memory because clients have not taken
        them, and as many again of whole answers.
    :param client_unread: of these, those for one client.
    """

    connections: int = setting(
        "NIXERY_MAX_CONNECTIONS",
        "Connections at the same time; for those beyond, idle ones of the client with the most "
        "are closed.",
        number(10, 1_000_000),
        "4000",
    )
    client_connections: int = setting(
        "NIXERY_CLIENT_CONNECTIONS",
        "Connections of one client at the same time; for those beyond, its idle ones are closed.",
        number(1, 1_000_000),
        "256",
    )
    client_requests: int = setting(
        "NIXERY_CLIENT_REQUESTS",
        "Requests of one client that are answered at the same time; beyond that, answers are 429.",
        number(1, 1_000_000),
        "128",
    )
    header_seconds: float = setting(
        "NIXERY_HEADER_TIMEOUT",
        "Seconds that a request's headers may take to arrive.",
        number(0.1, 3600, float),
        "20",
    )
    header_size: int = setting(
        "NIXERY_HEADER_SIZE", "Most bytes of a request's headers: 32K.", size(4000), "32K"
    )
    idle_seconds: float = setting(
        "NIXERY_IDLE_TIMEOUT",
        "Seconds for which a connection without a request is kept.",
        number(0.1, 86400, float),
        "120",
    )
    write_seconds: float = setting(
        "NIXERY_WRITE_TIMEOUT",
        "Seconds within which a client must take some of what is sent to it.",
        number(0.1, 86400, float),
        "60",
    )
    unread: int = 32 * 1024 * 1024
    client_unread: int = 4 * 1024 * 1024


@attrs.frozen
class StorageLimits:
    """How much the filesystem storage keeps, and how often it is verified."""

    most: int | None = setting(
        "NIXERY_STORAGE_MAX",
        "Most that the filesystem storage may hold, as 500M or 20G; images that were not pulled "
        "for longest go first (no limit).",
        size(1),
    )
    grace: float = setting(
        "NIXERY_STORAGE_GRACE",
        "Seconds for which an image is kept after it, or a part of it, was asked for.",
        number(20, 604800, float),  # what is being sent, or made, is marked every ten
        "600",
    )
    scrub_days: float = setting(
        "NIXERY_SCRUB_DAYS",
        "Days in which every blob on disk is verified once, in the background; 0 for never.",
        number(0, 36500, float),
        "30",
    )


@attrs.frozen
class NixStoreLimits:
    """How long store paths are kept, and how much room is kept free for others.

    :param min_free: bytes; none for a default that depends on the store.
    """

    keep_days: float = setting(
        "NIXERY_NIX_KEEP_DAYS",
        "Days for which Nix's garbage collector keeps an image's packages after they were last "
        "needed.",
        number(0, 36500, float),
        "30",
    )
    min_free: int | None = setting(
        "NIXERY_NIX_MIN_FREE",
        "Room to keep free for the Nix store: with less, garbage is collected; 0 for never (5G "
        "for a store of Nixery's own, never for the machine's).",
        size(0),
    )


@attrs.frozen
class HistoryLimits:
    """How long, and how much of, the history of builds is kept.

    :param seconds: for which a build is kept after its end.
    :param bytes: of all files together; a build that runs may have a quarter of it.
    """

    seconds: float = setting(
        "NIXERY_HISTORY_DAYS",
        "Days for which a build's history is kept.",
        number(0, 36500, float, scale=86400),
        "7",
    )
    bytes: int = setting(
        "NIXERY_HISTORY_SIZE",
        "Most megabytes that the history of builds takes on disk; the oldest goes first.",
        number(1, 100_000_000, scale=1_000_000),
        "1000",
    )
