"""Settings that belong to no single part of the daemon, in groups that are passed on as a whole.

Those that do are declared there: :mod:`nixery.model.limits`, :mod:`nixery.model.identity` and
:mod:`nixery.access.configured`.
"""

import attrs

from nixery.model.setting import absolute, number, one_of, setting, switch
from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Configuration,
    Flake,
    Folder,
    GitRepository,
    Source,
)
from nixery.model.tags import TagPolicy
from nixery.packing.codecs import COMPRESSIONS
from nixery.values import addresses, bucket, git_url, nixpkgs_config, revision, uris, url

DEFAULT_CHANNEL = "nixos-unstable"
PAGES = ("all", "no-logs", "off")
"""What may be shown of builds: everything, everything but what packages print, nothing."""


@attrs.frozen
class Address:
    """Where the registry listens."""

    port: int = setting("PORT", "Port to listen on.", number(0, 65535), "8080")
    listen: str | None = setting(
        "NIXERY_LISTEN",
        "Any Twisted endpoint string to listen on instead of PORT (the socket that systemd holds, "
        "if there is one).",
    )

    @property
    def endpoint(self) -> str:
        """A Twisted server endpoint string."""
        return self.listen or f"tcp:{self.port}"


@attrs.frozen
class PackageSet:
    """Which packages there are, and by what tags."""

    channel: str | None = setting(
        "NIXERY_CHANNEL",
        "Package set: a channel, branch or full commit of nixpkgs "
        f"({DEFAULT_CHANNEL} if no set is named).",
        revision,
    )
    repository: str | None = setting(
        "NIXERY_PKGS_REPO",
        "Package set: the URL of a git repository with a default.nix (https, http, ssh, file or "
        "host:path).",
        git_url,
    )
    path: str | None = setting(
        "NIXERY_PKGS_PATH", "Package set: a folder of Nix expressions.", absolute
    )
    flake: str | None = setting(
        "NIXERY_FLAKE",
        "Package set: a flake reference, of which legacyPackages or packages are served.",
    )
    nixpkgs: str = setting(
        "NIXERY_NIXPKGS_URL",
        "A mirror of nixpkgs for channels: any git URL.",
        git_url,
        NIXPKGS_URL,
    )
    configuration: Configuration | None = setting(  # noqa: RUF009
        "NIXERY_NIXPKGS_CONFIG",
        "Configuration that is passed to the package set: JSON of nixpkgs' config, besides which "
        "'overlays' may name a Nix file; or the absolute path of a file with that JSON.",
        nixpkgs_config,
    )
    patterns: str | None = setting(
        "NIXERY_TAGS",
        "Tags that are served besides latest: patterns such as 'nixos-* 20??-??-??', with spaces "
        "between them (* for a git repository, none for a channel).",
    )
    unreachable_commits: bool = setting(
        "NIXERY_UNREACHABLE_COMMITS",
        "Whether commits are served that no served branch or tag reaches, as those of pull "
        "requests and forks: on or off.",
        switch,
        "off",
    )

    @property
    def source(self) -> Source:
        """The package source that was named; a channel if none was."""
        if self.repository:
            return GitRepository(self.repository)
        if self.flake:
            return Flake(self.flake)
        if self.path:
            return Folder(self.path)
        return Channel(self.channel or DEFAULT_CHANNEL, self.nixpkgs)

    @property
    def tags(self) -> TagPolicy:
        """Which tags are served."""
        return TagPolicy(tuple((self.patterns or "*" * bool(self.repository)).split()))


@attrs.frozen
class Revisions:
    """How long it is remembered what a tag of the package source stands for."""

    ttl: float = setting(
        "NIXERY_REVISION_TTL",
        "Seconds for which a git source's branches and tags are remembered.",
        number(0, 86400, float),
        "30",
    )
    stale_if_error: bool = setting(
        "NIXERY_STALE_IF_ERROR",
        "Whether the last known revision of a tag is served while the source can't be reached.",
        switch,
        "on",
    )


@attrs.frozen
class Shown:
    """What clients are told of builds."""

    hold: float = setting(
        "NIXERY_HOLD",
        "Seconds for which a request waits for a build before it is redirected to itself.",
        number(0.1, 3600, float),
        "25",
    )
    pages: str = setting(
        "NIXERY_PAGES",
        f"What is shown of builds below /builds: {', '.join(PAGES)}.",
        one_of(*PAGES),
        "all",
    )
    traces: bool = setting(
        "NIXERY_TRACES",
        "Whether clients are told Nix's traces, with source lines and paths of this machine, or "
        "the log alone is: on or off.",
        switch,
        "off",
    )


@attrs.frozen
class Transport:
    """How clients connect: by TLS, or through proxies."""

    certificate: str | None = setting(
        "NIXERY_TLS_CERT",
        "Certificate, a PEM file with the chain behind it: TLS is spoken, whatever the endpoint.",
        absolute,
    )
    key: str | None = setting(
        "NIXERY_TLS_KEY", "Private key of the certificate NIXERY_TLS_CERT, a PEM file.", absolute
    )
    proxies: str = setting(
        "NIXERY_TRUSTED_PROXIES",
        "Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed; "
        "unix for those on a UNIX socket.",
        addresses,
        unset="",
    )

    @property
    def tls(self) -> tuple[str, str] | None:
        """Paths of the certificate and its key, if TLS is spoken."""
        return (self.certificate, self.key) if self.certificate and self.key else None


@attrs.frozen
class Evaluation:
    """What the evaluation of a package set may do."""

    mode: str = setting(
        "NIXERY_EVALUATION",
        "What the evaluation of a package set may do: confined, to reading the set and nothing "
        "else of the machine; or open, to everything that the daemon's user may.",
        one_of("confined", "open"),
        "confined",
    )
    allowed_uris: tuple[str, ...] = setting(
        "NIXERY_ALLOWED_URIS",
        "Beginnings of the URIs that a confined evaluation may fetch from, such as "
        "https://github.com/, with spaces between them (none besides those of allowed-uris in "
        "Nix's own settings).",
        uris,
        unset=(),
    )


@attrs.frozen
class Stopping:
    """How the daemon stops.

    :param handover: whether another daemon answers in its place; none if nobody has said.
    """

    drain: float = setting(
        "NIXERY_DRAIN",
        "Seconds that blobs which are being sent get when the daemon is stopped.",
        number(0, 86400, float),
        "30",
    )
    handover: bool | None = setting(
        "NIXERY_HANDOVER",
        "Whether another instance answers at the same address when this one is stopped, as behind "
        "a load balancer: on or off (on for a socket that systemd holds).",
        switch,
    )


@attrs.frozen
class Watching:
    """How operators watch the daemon."""

    endpoint: str | None = setting(
        "NIXERY_OPERATIONS_LISTEN",
        "Endpoint string for /healthz, /readyz and /metrics, which then are not on the main port.",
    )
    log_format: str = setting(
        "NIXERY_LOG_FORMAT",
        "How the log is written: text or json.",
        one_of("text", "json"),
        "text",
    )


@attrs.frozen
class StoragePlace:
    """Where images are kept."""

    backend: str | None = setting(
        "NIXERY_STORAGE_BACKEND",
        "Where images are kept: filesystem or gcs (gcs if a bucket is named, else filesystem).",
        one_of("filesystem", "gcs"),
    )
    folder: str | None = setting(
        "STORAGE_PATH", "Folder of the filesystem storage (in the state folder).", absolute
    )


@attrs.frozen
class BucketChoice:
    """A bucket of Google Cloud Storage."""

    name: str | None = setting(
        "BUCKET",
        "Bucket of Google Cloud Storage; GCS_BUCKET is another name.",
        bucket,
        alias="GCS_BUCKET",
    )
    signing_key: str | None = setting(
        "GCS_SIGNING_KEY",
        "Private key of a service account, a PEM file, for signed URLs (the default credentials "
        "sign, or the bucket is public).",
        absolute,
    )
    signing_account: str | None = setting(
        "GCS_SIGNING_ACCOUNT",
        "E-mail address of the service account that GCS_SIGNING_KEY belongs to.",
    )
    url_lifetime: int = setting(
        "GCS_URL_LIFETIME", "Seconds for which a signed URL is valid.", number(20, 604000), "300"
    )
    redirect: bool = setting(
        "NIXERY_STORAGE_REDIRECT",
        "Whether clients load blobs from the bucket itself: on or off.",
        switch,
        "on",
    )


@attrs.frozen
class ImageSettings:
    """How images are made."""

    nix_timeout: int = setting(
        "NIX_TIMEOUT", "Seconds that a Nix builder may run.", number(1, 604800), "600"
    )
    nix_store: str | None = setting(
        "NIXERY_NIX_STORE",
        "Folder for a Nix store of Nixery's own (the machine's store if there is one).",
        absolute,
    )
    layer_budget: int = setting(
        "NIXERY_LAYER_BUDGET", "Most layers that an image may have.", number(1, 120), "94"
    )
    popularity_url: str | None = setting(
        "NIX_POPULARITY_URL",
        "Popularity counts of the package set, as nixery-popcount writes them (http, https or "
        "file URL).",
        url("http", "https", "file"),
    )
    compression: str = setting(
        "NIXERY_COMPRESSION",
        f"How layers are compressed: {', '.join(COMPRESSIONS)}.",
        one_of(*COMPRESSIONS),
        "fast",
    )
    packers: int | None = setting(
        "NIXERY_PACKERS",
        "Layers that are packed at the same time, each by a process (one for each processor).",
        number(1, 256),
    )
