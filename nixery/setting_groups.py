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

    port: int = setting("PORT=8080", number(0, 65535), "Port to listen on.")
    listen: str | None = setting(
        "NIXERY_LISTEN",
        str,
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
        revision,
        "Package set: a channel, branch or full commit of nixpkgs "
        f"({DEFAULT_CHANNEL} if no set is named).",
    )
    repository: str | None = setting(
        "NIXERY_PKGS_REPO",
        git_url,
        "Package set: the URL of a git repository with a default.nix (https, http, ssh, file or "
        "host:path).",
    )
    path: str | None = setting(
        "NIXERY_PKGS_PATH", absolute, "Package set: a folder of Nix expressions."
    )
    flake: str | None = setting(
        "NIXERY_FLAKE",
        str,
        "Package set: a flake reference, of which legacyPackages or packages are served.",
    )
    nixpkgs: str = setting(
        f"NIXERY_NIXPKGS_URL={NIXPKGS_URL}",
        git_url,
        "A mirror of nixpkgs for channels: any git URL.",
    )
    configuration: Configuration | None = setting(  # noqa: RUF009
        "NIXERY_NIXPKGS_CONFIG",
        nixpkgs_config,
        "Configuration that is passed to the package set: JSON of nixpkgs' config, besides which "
        "'overlays' may name a Nix file; or the absolute path of a file with that JSON.",
    )
    patterns: str | None = setting(
        "NIXERY_TAGS",
        str,
        "Tags that are served besides latest: patterns such as 'nixos-* 20??-??-??', with spaces "
        "between them (* for a git repository, none for a channel).",
    )
    unreachable_commits: bool = setting(
        "NIXERY_UNREACHABLE_COMMITS=off",
        switch,
        "Whether commits are served that no served branch or tag reaches, as those of pull "
        "requests and forks: on or off.",
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
        "NIXERY_REVISION_TTL=30",
        number(0, 86400, float),
        "Seconds for which a git source's branches and tags are remembered.",
    )
    stale_if_error: bool = setting(
        "NIXERY_STALE_IF_ERROR=on",
        switch,
        "Whether the last known revision of a tag is served while the source can't be reached.",
    )


@attrs.frozen
class Shown:
    """What clients are told of builds."""

    hold: float = setting(
        "NIXERY_HOLD=25",
        number(0.1, 3600, float),
        "Seconds for which a request waits for a build before it is redirected to itself.",
    )
    pages: str = setting(
        "NIXERY_PAGES=all",
        one_of(*PAGES),
        f"What is shown of builds below /builds: {', '.join(PAGES)}.",
    )
    traces: bool = setting(
        "NIXERY_TRACES=off",
        switch,
        "Whether clients are told Nix's traces, with source lines and paths of this machine, or "
        "the log alone is: on or off.",
    )


@attrs.frozen
class Transport:
    """How clients connect: by TLS, or through proxies."""

    certificate: str | None = setting(
        "NIXERY_TLS_CERT",
        absolute,
        "Certificate, a PEM file with the chain behind it: TLS is spoken, whatever the endpoint.",
    )
    key: str | None = setting(
        "NIXERY_TLS_KEY", absolute, "Private key of the certificate NIXERY_TLS_CERT, a PEM file."
    )
    proxies: str = setting(
        "NIXERY_TRUSTED_PROXIES",
        addresses,
        "Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed; "
        "unix for those on a UNIX socket.",
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
        "NIXERY_EVALUATION=confined",
        one_of("confined", "open"),
        "What the evaluation of a package set may do: confined, to reading the set and nothing "
        "else of the machine; or open, to everything that the daemon's user may.",
    )
    allowed_uris: tuple[str, ...] = setting(
        "NIXERY_ALLOWED_URIS",
        uris,
        "Beginnings of the URIs that a confined evaluation may fetch from, such as "
        "https://github.com/, with spaces between them (none besides those of allowed-uris in "
        "Nix's own settings).",
        unset=(),
    )


@attrs.frozen
class Stopping:
    """How the daemon stops.

    :param handover: whether another daemon answers in its place; none if nobody has said.
    """

    drain: float = setting(
        "NIXERY_DRAIN=30",
        number(0, 86400, float),
        "Seconds that blobs which are being sent get when the daemon is stopped.",
    )
    handover: bool | None = setting(
        "NIXERY_HANDOVER",
        switch,
        "Whether another instance answers at the same address when this one is stopped, as behind "
        "a load balancer: on or off (on for a socket that systemd holds).",
    )


@attrs.frozen
class Watching:
    """How operators watch the daemon."""

    endpoint: str | None = setting(
        "NIXERY_OPERATIONS_LISTEN",
        str,
        "Endpoint string for /healthz, /readyz and /metrics, which then are not on the main port.",
    )
    log_format: str = setting(
        "NIXERY_LOG_FORMAT=text", one_of("text", "json"), "How the log is written: text or json."
    )


@attrs.frozen
class StoragePlace:
    """Where images are kept."""

    backend: str | None = setting(
        "NIXERY_STORAGE_BACKEND",
        one_of("filesystem", "gcs"),
        "Where images are kept: filesystem or gcs (gcs if a bucket is named, else filesystem).",
    )
    folder: str | None = setting(
        "STORAGE_PATH", absolute, "Folder of the filesystem storage (in the state folder)."
    )


@attrs.frozen
class BucketChoice:
    """A bucket of Google Cloud Storage."""

    name: str | None = setting(
        "BUCKET",
        bucket,
        "Bucket of Google Cloud Storage; GCS_BUCKET is another name.",
        alias="GCS_BUCKET",
    )
    signing_key: str | None = setting(
        "GCS_SIGNING_KEY",
        absolute,
        "Private key of a service account, a PEM file, for signed URLs (the default credentials "
        "sign, or the bucket is public).",
    )
    signing_account: str | None = setting(
        "GCS_SIGNING_ACCOUNT",
        str,
        "E-mail address of the service account that GCS_SIGNING_KEY belongs to.",
    )
    url_lifetime: int = setting(
        "GCS_URL_LIFETIME=300", number(20, 604000), "Seconds for which a signed URL is valid."
    )
    redirect: bool = setting(
        "NIXERY_STORAGE_REDIRECT=on",
        switch,
        "Whether clients load blobs from the bucket itself: on or off.",
    )


@attrs.frozen
class ImageSettings:
    """How images are made."""

    nix_timeout: int = setting(
        "NIX_TIMEOUT=600", number(1, 604800), "Seconds that a Nix builder may run."
    )
    nix_store: str | None = setting(
        "NIXERY_NIX_STORE",
        absolute,
        "Folder for a Nix store of Nixery's own (the machine's store if there is one).",
    )
    layer_budget: int = setting(
        "NIXERY_LAYER_BUDGET=94", number(1, 120), "Most layers that an image may have."
    )
    popularity_url: str | None = setting(
        "NIX_POPULARITY_URL",
        url("http", "https", "file"),
        "Popularity counts of the package set, as nixery-popcount writes them (http, https or "
        "file URL).",
    )
    compression: str = setting(
        "NIXERY_COMPRESSION=fast",
        one_of(*COMPRESSIONS),
        f"How layers are compressed: {', '.join(COMPRESSIONS)}.",
    )
    packers: int | None = setting(
        "NIXERY_PACKERS",
        number(1, 256),
        "Layers that are packed at the same time, each by a process (one for each processor).",
    )
