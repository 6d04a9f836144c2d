"""The environment variables that an operator may set."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nixery.model.identity import AUTO, COMMIT, EPOCH
from nixery.model.source import NIXPKGS_URL
from nixery.packing.codecs import COMPRESSIONS
from nixery.values import (
    absolute,
    addresses,
    bucket,
    git_url,
    image_source,
    nixpkgs_config,
    number,
    one_of,
    revision,
    size,
    token_server,
    uris,
    url,
    word,
)

DEFAULT_CHANNEL = "nixos-unstable"
PAGES = ("all", "no-logs", "off")
"""What may be shown of builds: everything, everything but what packages print, nothing."""

EVALUATIONS = ("confined", "open")


@attrs.frozen
class Variable:
    """One environment variable.

    :param read: from its text to its value; a ``ValueError`` says what is expected.
    :param default: its text if it is not set.
    :param alias: another name of it.
    """

    name: str
    help: str
    read: Callable[[str], Any] = str
    default: str = ""
    alias: str = ""

    @property
    def option(self) -> str:
        """The command line option of the same meaning."""
        return self.name.removeprefix("NIXERY_").lower().replace("_", "-")


_LISTENING = (
    Variable("PORT", "Port to listen on.", number(0, 65535), "8080"),
    Variable(
        "NIXERY_LISTEN",
        "Any Twisted endpoint string to listen on instead of PORT (the socket that systemd holds, "
        "if there is one).",
    ),
)

_ACCESS = (
    Variable(
        "NIXERY_TLS_CERT",
        "Certificate, a PEM file with the chain behind it: TLS is spoken, whatever the endpoint.",
        absolute,
    ),
    Variable(
        "NIXERY_TLS_KEY", "Private key of the certificate NIXERY_TLS_CERT, a PEM file.", absolute
    ),
    Variable(
        "NIXERY_TRUSTED_PROXIES",
        "Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed; "
        "unix for those on a UNIX socket.",
        addresses,
    ),
    Variable(
        "NIXERY_HTPASSWD",
        "Users and passwords: a file that htpasswd -B -C 12 has written.",
        absolute,
    ),
    Variable(
        "NIXERY_TOKENS",
        "Static bearer tokens: a file with a line user:SHA-256 of the token for each.",
        absolute,
    ),
    Variable(
        "NIXERY_JWT_KEY",
        "Public key of a token server: PEM, or a key set (JWKS).",
        absolute,
    ),
    Variable(
        "NIXERY_JWT_REALM", "URL of the token server at which clients get tokens.", token_server
    ),
    Variable(
        "NIXERY_JWT_AUDIENCE",
        "Name of this registry in the tokens of the token server (service, aud).",
        word,
    ),
    Variable(
        "NIXERY_JWT_ISSUER",
        "Issuer that tokens of the token server must name, iss (not looked at).",
    ),
    Variable(
        "NIXERY_RULES",
        "Which packages and tags each user may pull: a TOML file (everything).",
        absolute,
    ),
)

_PACKAGE_SET = (
    Variable(
        "NIXERY_CHANNEL",
        "Package set: a channel, branch or full commit of nixpkgs "
        f"({DEFAULT_CHANNEL} if no set is named).",
        revision,
    ),
    Variable(
        "NIXERY_PKGS_REPO",
        "Package set: the URL of a git repository with a default.nix (https, http, ssh, file or "
        "host:path).",
        git_url,
    ),
    Variable("NIXERY_PKGS_PATH", "Package set: a folder of Nix expressions.", absolute),
    Variable(
        "NIXERY_FLAKE",
        "Package set: a flake reference, of which legacyPackages or packages are served.",
    ),
    Variable(
        "NIXERY_NIXPKGS_URL",
        "A mirror of nixpkgs for channels: any git URL.",
        git_url,
        NIXPKGS_URL,
    ),
    Variable(
        "NIXERY_NIXPKGS_CONFIG",
        "What the package set is told: JSON of nixpkgs' config, besides which 'overlays' may name "
        "a Nix file; or the absolute path of a file with that JSON.",
        nixpkgs_config,
    ),
    Variable(
        "NIXERY_TAGS",
        "Tags that are served besides latest: patterns such as 'nixos-* 20??-??-??', with spaces "
        "between them (* for a git repository, none for a channel).",
    ),
    Variable(
        "NIXERY_UNREACHABLE_COMMITS",
        "Whether commits are served that no served branch or tag reaches, as those of pull "
        "requests and forks: on or off.",
        one_of("on", "off"),
        "off",
    ),
    Variable(
        "NIXERY_IMAGE_SOURCE",
        "What images name as their source, in labels and /etc/os-release: a URL; auto, for that of "
        "the package set where everybody may be told it; or off.",
        image_source,
        AUTO,
    ),
    Variable(
        "NIXERY_CREATED",
        "Date that images have: epoch, which is 1970; or commit, for that of the package set's "
        "commit where it has one.",
        one_of(EPOCH, COMMIT),
        EPOCH,
    ),
    Variable(
        "NIXERY_REVISION_TTL",
        "Seconds that a git source's branches and tags are remembered.",
        number(0, 86400, float),
        "30",
    ),
    Variable(
        "NIXERY_STALE_IF_ERROR",
        "Whether the last known revision of a tag is served while the source can't be reached.",
        one_of("on", "off"),
        "on",
    ),
)

_EVALUATION = (
    Variable(
        "NIXERY_EVALUATION",
        "What the evaluation of a package set may do: confined, to reading the set and nothing "
        "else of the machine; or open, to everything that the daemon's user may.",
        one_of(*EVALUATIONS),
        "confined",
    ),
    Variable(
        "NIXERY_ALLOWED_URIS",
        "Beginnings of the URIs that a confined evaluation may fetch from, such as "
        "https://github.com/, with spaces between them (none besides those of allowed-uris in "
        "Nix's own settings).",
        uris,
    ),
)

_STORAGE = (
    Variable(
        "NIXERY_STORAGE_BACKEND",
        "Where images are kept: filesystem or gcs (gcs if a bucket is named, else filesystem).",
        one_of("filesystem", "gcs"),
    ),
    Variable("STORAGE_PATH", "Folder of the filesystem storage (in the state folder).", absolute),
    Variable(
        "BUCKET",
        "Bucket of Google Cloud Storage; GCS_BUCKET is another name.",
        bucket,
        "",
        "GCS_BUCKET",
    ),
    Variable(
        "GCS_SIGNING_KEY",
        "Private key of a service account, a PEM file, for signed URLs (the default credentials "
        "sign, or the bucket is public).",
        absolute,
    ),
    Variable(
        "GCS_SIGNING_ACCOUNT",
        "E-mail address of the service account that GCS_SIGNING_KEY belongs to.",
    ),
    Variable(
        "GCS_URL_LIFETIME", "Seconds that a signed URL is good for.", number(20, 604000), "300"
    ),
    Variable(
        "NIXERY_STORAGE_REDIRECT",
        "Whether clients load blobs from the bucket itself: on or off.",
        one_of("on", "off"),
        "on",
    ),
)

_IMAGES = (
    Variable("NIX_TIMEOUT", "Seconds that a Nix builder may run.", number(1, 604800), "600"),
    Variable(
        "NIXERY_NIX_STORE",
        "Folder for a Nix store of Nixery's own (the machine's store if there is one).",
        absolute,
    ),
    Variable("NIXERY_LAYER_BUDGET", "Most layers that an image may have.", number(1, 120), "94"),
    Variable(
        "NIX_POPULARITY_URL",
        "Popularity counts of the package set, as nixery-popcount writes them (http, https or "
        "file URL).",
        url("http", "https", "file"),
    ),
    Variable(
        "NIXERY_COMPRESSION",
        f"How layers are compressed: {', '.join(COMPRESSIONS)}.",
        one_of(*COMPRESSIONS),
        "fast",
    ),
    Variable(
        "NIXERY_PACKERS",
        "Layers that are packed at once, each by a process (one for each processor).",
        number(1, 256),
    ),
)

_BUILDS = (
    Variable(
        "NIXERY_HOLD",
        "Seconds that a request waits for a build before it is redirected to itself.",
        number(0.1, 3600, float),
        "25",
    ),
    Variable(
        "NIXERY_PAGES",
        f"What is shown of builds below /builds: {', '.join(PAGES)}.",
        one_of(*PAGES),
        "all",
    ),
    Variable(
        "NIXERY_TRACES",
        "Whether clients are told Nix's traces, with source lines and paths of this machine, or "
        "the log alone is: on or off.",
        one_of("on", "off"),
        "off",
    ),
    Variable(
        "NIXERY_HISTORY_DAYS",
        "Days that a build's history is kept.",
        number(0, 36500, float),
        "7",
    ),
    Variable(
        "NIXERY_HISTORY_SIZE",
        "Most megabytes that the history of builds takes on disk; the oldest goes first.",
        number(1, 100_000_000),
        "1000",
    ),
)

_LIMITS = (
    Variable("NIXERY_MAX_BUILDS", "Images that are made at once.", number(1, 1000), "4"),
    Variable(
        "NIXERY_MAX_QUEUE",
        "Images that wait to be made, those of each client and network in turn; beyond that, "
        "answers are 429.",
        number(0, 100_000),
        "200",
    ),
    Variable(
        "NIXERY_BUILD_TIMEOUT",
        "Seconds that making an image may take, without its wait in the queue.",
        number(1, 604800),
        "3600",
    ),
    Variable(
        "NIXERY_NIX_MEMORY",
        "Most memory of a process of Nix or git, without builders: 500M, 4G.",
        size(100_000_000),
        "4G",
    ),
    Variable("NIXERY_MAX_PACKAGES", "Packages that an image may name.", number(1, 128), "64"),
    Variable(
        "NIXERY_MAX_CLOSURE",
        "Most bytes of an image's packages with all that they need: 500M, 20G.",
        size(1),
        "20G",
    ),
    Variable(
        "NIXERY_FAILURE_TTL",
        "Seconds in which an image that could not be made is not tried again.",
        number(0, 86400, float),
        "60",
    ),
    Variable(
        "NIXERY_MAX_CONNECTIONS",
        "Connections at once; for those beyond, idle ones of the client with the most are closed.",
        number(10, 1_000_000),
        "4000",
    ),
    Variable(
        "NIXERY_CLIENT_CONNECTIONS",
        "Connections of one client at once; for those beyond, its idle ones are closed.",
        number(1, 1_000_000),
        "256",
    ),
    Variable(
        "NIXERY_CLIENT_REQUESTS",
        "Requests of one client that are answered at once; beyond that, answers are 429.",
        number(1, 1_000_000),
        "128",
    ),
    Variable(
        "NIXERY_HEADER_TIMEOUT",
        "Seconds that a request's headers may take to arrive.",
        number(0.1, 3600, float),
        "20",
    ),
    Variable("NIXERY_HEADER_SIZE", "Bytes of a request's headers: 32K.", size(4000), "32K"),
    Variable(
        "NIXERY_IDLE_TIMEOUT",
        "Seconds that a connection without a request is kept.",
        number(0.1, 86400, float),
        "120",
    ),
    Variable(
        "NIXERY_WRITE_TIMEOUT",
        "Seconds in which a client takes some of what is sent to it.",
        number(0.1, 86400, float),
        "60",
    ),
    Variable(
        "NIXERY_STORAGE_MAX",
        "Most that the filesystem storage may hold, as 500M or 20G; images that were not pulled "
        "for longest go first (no bound).",
        size(1),
    ),
    Variable(
        "NIXERY_STORAGE_GRACE",
        "Seconds in which an image is not dropped after it, or a part of it, was asked for.",
        number(20, 604800, float),  # what is being sent, or made, is said to be of use every ten
        "600",
    ),
    Variable(
        "NIXERY_SCRUB_DAYS",
        "Days in which every blob on disk is verified once, in the background; 0 for never.",
        number(0, 36500, float),
        "30",
    ),
    Variable(
        "NIXERY_NIX_KEEP_DAYS",
        "Days that Nix's garbage collector keeps an image's packages after they were last needed.",
        number(0, 36500, float),
        "30",
    ),
    Variable(
        "NIXERY_NIX_MIN_FREE",
        "Room to keep free for the Nix store: with less, what nobody keeps is collected; 0 for "
        "never (5G for a store of Nixery's own, never for the machine's).",
        size(0),
    ),
    Variable(
        "NIXERY_DRAIN",
        "Seconds that blobs which are being sent get when the daemon is stopped.",
        number(0, 86400, float),
        "30",
    ),
    Variable(
        "NIXERY_HANDOVER",
        "Whether another instance answers at the same address when this one is stopped, as behind "
        "a load balancer: on or off (on for a socket that systemd holds).",
        one_of("on", "off"),
    ),
)

_WATCHING = (
    Variable(
        "NIXERY_OPERATIONS_LISTEN",
        "Endpoint string for /healthz, /readyz and /metrics, which then are not on the main port.",
    ),
    Variable(
        "NIXERY_LOG_FORMAT",
        "How the log is written: text or json.",
        one_of("text", "json"),
        "text",
    ),
)

CHAPTERS: Mapping[str, tuple[Variable, ...]] = {
    "Where it listens": _LISTENING,
    "Package set and names": _PACKAGE_SET,
    "Pages and builds": _BUILDS,
    "Who may pull what": _ACCESS,
    "What a package set may do": _EVALUATION,
    "Limits": _LIMITS,
    "Watch it": _WATCHING,
    "Where images are kept": _STORAGE,
    "How images are made": _IMAGES,
}
"""All variables, in the order of docs/settings.md's chapters."""

VARIABLES = tuple(variable for chapter in CHAPTERS.values() for variable in chapter)

SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH", "NIXERY_FLAKE")
"""Variables that name the package set: at most one of them may be set."""
