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
    GitRepository,
    LocalFolder,
    Source,
)
from nixery.model.tags import TagPolicy
from nixery.model.wanted_ahead import NOTHING_AHEAD, WantedAhead, read_wanted
from nixery.packing.codecs import COMPRESSIONS
from nixery.values import (
    addresses,
    bucket,
    git_url,
    location,
    nixpkgs_config,
    platforms,
    revision,
    s3_bucket,
    s3_prefix,
    uris,
    url,
)

DEFAULT_CHANNEL = "nixos-unstable"
PAGES = ("all", "no-logs", "off")
"""How much of builds is shown: everything, everything but what packages print, nothing."""


@attrs.frozen
class Address:
    """Where the registry listens.

    :param port: Port to listen on, at all addresses of IPv6 and IPv4.
    :param listen: Any Twisted endpoint string to listen on instead of PORT, such as
        tcp:8080:interface=127.0.0.1; one of tcp or ssl without an interface is at all addresses of
        IPv6, too (the socket that systemd holds, if there is one).
    :param workers: Processes that answer requests: the daemon, and others that answer beside it
        what is known at once. Not with TLS.
    """

    port: int = setting("PORT=8080", number(0, 65535))
    listen: str | None = setting("NIXERY_LISTEN")
    workers: int = setting("NIXERY_WORKERS=1", number(1, 64))

    @property
    def endpoint(self) -> str:
        """A Twisted server endpoint string."""
        return self.listen or f"tcp:{self.port}"


@attrs.frozen
class PackageSet:
    """Which packages there are, and by what tags.

    :param channel: Package set: a channel, branch or full commit of nixpkgs (nixos-unstable if no
        set is named).
    :param repository: Package set: the URL of a git repository with a default.nix (https, http,
        ssh, file or host:path).
    :param path: Package set: a folder of Nix expressions.
    :param flake: Package set: a flake reference, of which legacyPackages or packages are served.
    :param nixpkgs: A mirror of nixpkgs for channels: any git URL.
    :param configuration: Configuration that is passed to the package set: JSON of nixpkgs' config,
        besides which 'overlays' may name a Nix file; or the absolute path of a file with that JSON.
    :param patterns: Tags that are served besides latest: patterns such as 'nixos-* 20??-??-??',
        with spaces between them (* for a git repository, none for a channel).
    :param unreachable_commits: Whether commits are served that no served branch or tag reaches, as
        those of pull requests and forks: on or off.
    """

    channel: str | None = setting("NIXERY_CHANNEL", revision)
    repository: str | None = setting("NIXERY_PKGS_REPO", git_url)
    path: str | None = setting("NIXERY_PKGS_PATH", absolute)
    flake: str | None = setting("NIXERY_FLAKE")
    nixpkgs: str = setting(f"NIXERY_NIXPKGS_URL={NIXPKGS_URL}", git_url)
    configuration: Configuration | None = setting(  # noqa: RUF009
        "NIXERY_NIXPKGS_CONFIG", nixpkgs_config
    )
    patterns: str | None = setting("NIXERY_TAGS")
    unreachable_commits: bool = setting("NIXERY_UNREACHABLE_COMMITS=off", switch)

    @property
    def source(self) -> Source:
        """The package source that was named; a channel if none was."""
        if self.repository:
            return GitRepository(self.repository)
        if self.flake:
            return Flake(self.flake)
        if self.path:
            return LocalFolder(self.path)
        return Channel(self.channel or DEFAULT_CHANNEL, self.nixpkgs)

    @property
    def tags(self) -> TagPolicy:
        """Which tags are served."""
        return TagPolicy(tuple((self.patterns or "*" * bool(self.repository)).split()))


@attrs.frozen
class Revisions:
    """How long it is remembered what a tag of the package source stands for.

    :param ttl: Seconds for which a git source's branches and tags are remembered.
    :param stale_if_error: Whether the last known revision of a tag is served while the source can't
        be reached.
    """

    ttl: float = setting("NIXERY_REVISION_TTL=30", number(0, 86400, float))
    stale_if_error: bool = setting("NIXERY_STALE_IF_ERROR=on", switch)


@attrs.frozen
class Shown:
    """How long clients wait for builds, and what they are told of them.

    :param hold: Seconds for which a request waits for a build before it is redirected to itself.
    :param pages: What is shown of builds below /builds: all, no-logs, off.
    :param traces: Whether clients are told Nix's traces, with source lines and paths of this
        machine, or the log alone is: on or off.
    """

    hold: float = setting("NIXERY_HOLD=25", number(0.1, 3600, float))
    pages: str = setting("NIXERY_PAGES=all", one_of(*PAGES))
    traces: bool = setting("NIXERY_TRACES=off", switch)


@attrs.frozen
class Ahead:
    """What is made before anybody asks, and who is told of builds.

    :param wanted: Images that are made for each new revision of the package set before anybody asks
        for them: names, and most-pulled:N for the N that were pulled most lately, with spaces or
        commas between them.
    :param notify_url: URL to which it is posted that an image was built, or that a build failed:
        CloudEvents as JSON (http or https).
    """

    wanted: WantedAhead = setting("NIXERY_PREBUILD", read_wanted, unset=NOTHING_AHEAD)  # noqa: RUF009
    notify_url: str | None = setting("NIXERY_NOTIFY_URL", url("http", "https"))


@attrs.frozen
class Transport:
    """How clients connect: by TLS, or through proxies.

    :param certificate: Certificate, a PEM file with the chain behind it: TLS is spoken, whatever
        the endpoint.
    :param key: Private key of the certificate NIXERY_TLS_CERT, a PEM file.
    :param proxies: Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are
        believed; unix for those on a UNIX socket.
    :param accel: Location at which the trusted proxies, all of them nginx, serve the blobs of the
        filesystem storage, such as /_blobs/: they send blobs by themselves then (Nixery does).
    """

    certificate: str | None = setting("NIXERY_TLS_CERT", absolute)
    key: str | None = setting("NIXERY_TLS_KEY", absolute)
    proxies: str = setting("NIXERY_TRUSTED_PROXIES", addresses, unset="")
    accel: str | None = setting("NIXERY_ACCEL", location)

    @property
    def tls(self) -> tuple[str, str] | None:
        """Paths of the certificate and its key, if TLS is spoken."""
        return (self.certificate, self.key) if self.certificate and self.key else None


@attrs.frozen
class Evaluation:
    """How far evaluation of the package set is confined.

    :param mode: What the evaluation of a package set may do: confined, to reading the set and
        nothing else of the machine; or open, to everything that the daemon's user may.
    :param allowed_uris: Beginnings of the URIs that a confined evaluation may fetch from, such as
        https://github.com/, with spaces between them (none besides those of allowed-uris in Nix's
        own settings).
    """

    mode: str = setting("NIXERY_EVALUATION=confined", one_of("confined", "open"))
    allowed_uris: tuple[str, ...] = setting("NIXERY_ALLOWED_URIS", uris, unset=())


@attrs.frozen
class Stopping:
    """How the daemon stops.

    :param drain: Seconds that blobs which are being sent get when the daemon is stopped.
    :param handover: Whether another instance answers at the same address when this one is stopped,
        as behind a load balancer: on or off (on for a socket that systemd holds).
    """

    drain: float = setting("NIXERY_DRAIN=30", number(0, 86400, float))
    handover: bool | None = setting("NIXERY_HANDOVER", switch)


@attrs.frozen
class Watching:
    """How operators watch the daemon.

    :param endpoint: Endpoint string for /healthz, /readyz and /metrics, which then are not on the
        main port.
    :param log_format: How the log is written: text or json.
    """

    endpoint: str | None = setting("NIXERY_OPERATIONS_LISTEN")
    log_format: str = setting("NIXERY_LOG_FORMAT=text", one_of("text", "json"))


@attrs.frozen
class StoragePlace:
    """Where images are kept.

    :param backend: Where images are kept: filesystem, gcs or s3 (gcs or s3 if a bucket is named,
        else filesystem).
    :param folder: Folder of the filesystem storage (in the state folder).
    :param redirect: Whether clients load blobs from the bucket itself: on or off.
    """

    backend: str | None = setting("NIXERY_STORAGE_BACKEND", one_of("filesystem", "gcs", "s3"))
    folder: str | None = setting("STORAGE_PATH", absolute)
    redirect: bool = setting("NIXERY_STORAGE_REDIRECT=on", switch)


@attrs.frozen
class BucketChoice:
    """A bucket of Google Cloud Storage.

    :param name: Bucket of Google Cloud Storage; GCS_BUCKET is another name.
    :param signing_key: Private key of a service account, a PEM file, for signed URLs (the default
        credentials sign, or the bucket is public).
    :param signing_account: E-mail address of the service account that GCS_SIGNING_KEY belongs to.
    :param url_lifetime: Seconds for which a signed URL is valid.
    """

    scheme = "gs"
    prefix = ""

    name: str | None = setting("BUCKET", bucket, alias="GCS_BUCKET")
    signing_key: str | None = setting("GCS_SIGNING_KEY", absolute)
    signing_account: str | None = setting("GCS_SIGNING_ACCOUNT")
    url_lifetime: int = setting("GCS_URL_LIFETIME=300", number(20, 604000))


@attrs.frozen
class S3Choice:
    """A bucket of Amazon S3, or of a service that speaks like it.

    :param name: Bucket of Amazon S3, or of a service with its API.
    :param prefix: Beginning of the names of all objects in S3_BUCKET, such as images/nixery, where
        the bucket is not Nixery's alone.
    :param public_endpoint: URL at which clients reach the service of S3_BUCKET, if they do not by
        the endpoint that the daemon uses.
    :param url_lifetime: Seconds for which a signed URL of S3_BUCKET is valid.
    """

    scheme = "s3"

    name: str | None = setting("S3_BUCKET", s3_bucket)
    prefix: str = setting("S3_PREFIX", s3_prefix, unset="")
    public_endpoint: str | None = setting("S3_PUBLIC_ENDPOINT", url("http", "https"))
    url_lifetime: int = setting("S3_URL_LIFETIME=300", number(20, 604000))


@attrs.frozen
class ImageSettings:
    """How images are made.

    :param platforms: Platforms of images whose names say none: linux/amd64, linux/arm64, with
        commas between. Of several, a name gives an index; clients that take none get the image of
        the first (that of the machine).
    :param nix_timeout: Seconds that a Nix builder may run.
    :param nix_store: Folder for a Nix store of Nixery's own (the machine's store if there is one).
    :param layer_budget: Most layers that an image may have.
    :param popularity_url: Popularity counts of the package set, as nixery popcount writes them
        (http, https or file URL).
    :param compression: How layers are compressed: fast, small, zstd.
    :param verify_sample: Per cent of the images made that are made again in the background, when
        nothing else is to be built, to see whether they come out the same.
    :param packers: Layers that are packed at the same time, each by a process (one for each
        processor).
    """

    platforms: tuple[str, ...] = setting("NIXERY_PLATFORMS", platforms, unset=())
    nix_timeout: int = setting("NIX_TIMEOUT=600", number(1, 604800))
    nix_store: str | None = setting("NIXERY_NIX_STORE", absolute)
    layer_budget: int = setting("NIXERY_LAYER_BUDGET=94", number(1, 120))
    popularity_url: str | None = setting("NIX_POPULARITY_URL", url("http", "https", "file"))
    compression: str = setting("NIXERY_COMPRESSION=fast", one_of(*COMPRESSIONS))
    verify_sample: float = setting("NIXERY_VERIFY_SAMPLE=0", number(0, 100, float))
    packers: int | None = setting("NIXERY_PACKERS", number(1, 256))
