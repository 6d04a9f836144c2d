"""What an operator may set, read from environment variables and checked as a whole."""

import os
from collections.abc import Mapping
from typing import Any

import attrs

from nixery.access.configured import AccessFiles
from nixery.model.identity import Naming
from nixery.model.limits import BuildLimits, DiskLimits, HttpLimits
from nixery.model.source import (
    Channel,
    Configuration,
    Flake,
    Folder,
    GitRepository,
    Source,
    without_credentials,
)
from nixery.model.tags import TagPolicy
from nixery.unknown import unknown_variables
from nixery.variables import DEFAULT_CHANNEL, SOURCES, VARIABLES, Variable


class SettingsInvalid(Exception):
    """Some settings can't be used.

    :param faults: a sentence for each.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "\n".join(self.faults)


@attrs.frozen
class BucketChoice:
    """A bucket of Google Cloud Storage to keep images in.

    :param signing_key: path of a PEM file, if there is one; then the account is there too.
    :param url_lifetime: seconds.
    :param redirect: whether clients are sent there.
    """

    name: str
    signing_key: str | None
    signing_account: str | None
    url_lifetime: int
    redirect: bool


@attrs.frozen
class Settings:
    """All settings, valid together.

    :param endpoint: a Twisted server endpoint string.
    :param state: the state folder: what the daemon writes lies in it.
    :param storage_path: folder of the filesystem storage.
    :param bucket: what images are kept in instead, if anything.
    :param nix_store: folder for ``nix --store``; none for the machine's own.
    :param nix_timeout: seconds.
    :param layer_budget: layers.
    :param popularity_url: where the popularity table is, if there is one.
    :param packers: processes; none for one for each processor.
    :param hold: seconds.
    :param configuration: what the package set is told; none for its own defaults.
    :param tags: which tags are served.
    :param unreachable_commits: whether commits are served that no served branch or tag reaches.
    :param naming: what images say of their source.
    :param evaluation: one of :data:`nixery.variables.EVALUATIONS`.
    :param allowed_uris: beginnings of the URIs that a confined evaluation may fetch.
    :param revision_ttl: seconds.
    :param stale_if_error: whether old revisions serve while the source can't be reached.
    :param pages: one of :data:`nixery.variables.PAGES`.
    :param traces: whether clients are told Nix's traces, source lines and paths.
    :param tls: paths of the certificate and its key, if TLS is spoken.
    :param proxies: addresses and networks of those that are believed.
    :param access: where it is written who may pull what.
    :param token_server: URL at which clients get tokens; none if not elsewhere.
    :param history_days: days.
    :param history_size: megabytes.
    :param drain: seconds.
    :param handover: whether another daemon answers in its place when this one stops.
    :param operations: a Twisted server endpoint string; none for the main one.
    :param log_format: ``text`` or ``json``.
    """

    endpoint: str
    source: Source
    configuration: Configuration | None
    tags: TagPolicy
    unreachable_commits: bool
    naming: Naming
    evaluation: str
    allowed_uris: tuple[str, ...]
    state: str
    storage_path: str
    bucket: BucketChoice | None
    nix_store: str | None
    nix_timeout: int
    layer_budget: int
    popularity_url: str | None
    compression: str
    packers: int | None
    hold: float
    revision_ttl: float
    stale_if_error: bool
    pages: str
    traces: bool
    history_days: float
    history_size: int
    tls: tuple[str, str] | None
    proxies: str
    access: AccessFiles
    token_server: str | None
    builds: BuildLimits
    http: HttpLimits
    disk: DiskLimits
    drain: float
    handover: bool
    operations: str | None
    log_format: str

    @property
    def folders(self) -> dict[str, str]:
        """The folders that are to be the daemon's alone, by what they are."""
        storage = {} if self.bucket is not None else {"storage": self.storage_path}
        return {"state": self.state, **storage}

    @property
    def paths(self) -> list[str]:
        """All files and folders that are named; they may be in the daemon's own folders."""
        files = attrs.astuple(self.access)
        named = [*self.folders.values(), self.nix_store, *(self.tls or ()), *files]
        if self.bucket is not None:
            named.append(self.bucket.signing_key)
        if isinstance(self.source, Folder):
            named.append(self.source.path)
        return [path for path in named if isinstance(path, str) and os.path.isabs(path)]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check all settings.

        :raises SettingsInvalid: naming every fault.
        """
        faults = unknown_variables(environ)
        values = {v.name: _value(v, environ, faults) for v in VARIABLES}
        source = _source(environ, values, faults)
        bucket = _bucket_choice(values, faults)
        _check_together(values, faults)
        if faults or source is None:
            raise SettingsInvalid(faults)
        state = _state_folder(environ)
        return cls(
            endpoint=values["NIXERY_LISTEN"] or f"tcp:{values['PORT']}",
            source=source,
            configuration=values["NIXERY_NIXPKGS_CONFIG"],
            tags=_tags(values["NIXERY_TAGS"], source),
            unreachable_commits=values["NIXERY_UNREACHABLE_COMMITS"] == "on",
            naming=Naming(values["NIXERY_IMAGE_SOURCE"], values["NIXERY_CREATED"]),
            evaluation=values["NIXERY_EVALUATION"],
            allowed_uris=tuple((values["NIXERY_ALLOWED_URIS"] or "").split()),
            state=state,
            storage_path=values["STORAGE_PATH"] or os.path.join(state, "storage"),
            bucket=bucket,
            nix_store=values["NIXERY_NIX_STORE"],
            nix_timeout=values["NIX_TIMEOUT"],
            layer_budget=values["NIXERY_LAYER_BUDGET"],
            popularity_url=values["NIX_POPULARITY_URL"],
            compression=values["NIXERY_COMPRESSION"],
            packers=values["NIXERY_PACKERS"],
            hold=values["NIXERY_HOLD"],
            revision_ttl=values["NIXERY_REVISION_TTL"],
            stale_if_error=values["NIXERY_STALE_IF_ERROR"] == "on",
            pages=values["NIXERY_PAGES"],
            traces=values["NIXERY_TRACES"] == "on",
            history_days=values["NIXERY_HISTORY_DAYS"],
            history_size=values["NIXERY_HISTORY_SIZE"],
            tls=(values["NIXERY_TLS_CERT"], values["NIXERY_TLS_KEY"])
            if values["NIXERY_TLS_CERT"]
            else None,
            proxies=values["NIXERY_TRUSTED_PROXIES"] or "",
            access=_access_files(values),
            token_server=values["NIXERY_JWT_REALM"],
            builds=_build_limits(values),
            http=_http_limits(values),
            disk=_disk_limits(values),
            drain=values["NIXERY_DRAIN"],
            handover=_handover(values),
            operations=values["NIXERY_OPERATIONS_LISTEN"],
            log_format=values["NIXERY_LOG_FORMAT"],
        )


def _value(variable: Variable, environ: Mapping[str, str], faults: list[str]) -> Any:
    name = variable.name
    if variable.alias and not environ.get(name) and environ.get(variable.alias):
        name = variable.alias
    text = environ.get(name) or variable.default
    if not text:
        return None
    try:
        return variable.read(text)
    except ValueError as error:
        faults.append(f"{name} is {without_credentials(text)!r}; it must be {error}")
        return None


_TOGETHER = (
    ("NIXERY_TLS_CERT", "NIXERY_TLS_KEY"),
    ("NIXERY_JWT_KEY", "NIXERY_JWT_REALM", "NIXERY_JWT_AUDIENCE"),
)


def _check_together(values: Mapping[str, Any], faults: list[str]) -> None:
    for names in _TOGETHER:
        there = [name for name in names if values[name]]
        lacking = [name for name in names if not values[name]]
        if there and lacking:
            faults.append(f"{there[0]} is set without {' and '.join(lacking)}; they go together")
    if values["NIXERY_JWT_ISSUER"] and not values["NIXERY_JWT_KEY"]:
        faults.append("NIXERY_JWT_ISSUER is set without NIXERY_JWT_KEY; they go together")


def _access_files(values: Mapping[str, Any]) -> AccessFiles:
    return AccessFiles(
        htpasswd=values["NIXERY_HTPASSWD"],
        tokens=values["NIXERY_TOKENS"],
        rules=values["NIXERY_RULES"],
        jwt_key=values["NIXERY_JWT_KEY"],
        jwt_audience=values["NIXERY_JWT_AUDIENCE"],
        jwt_issuer=values["NIXERY_JWT_ISSUER"],
    )


def _build_limits(values: Mapping[str, Any]) -> BuildLimits:
    return BuildLimits(
        at_once=values["NIXERY_MAX_BUILDS"],
        waiting=values["NIXERY_MAX_QUEUE"],
        seconds=values["NIXERY_BUILD_TIMEOUT"],
        memory=values["NIXERY_NIX_MEMORY"],
        packages=values["NIXERY_MAX_PACKAGES"],
        closure_size=values["NIXERY_MAX_CLOSURE"],
        failure_ttl=values["NIXERY_FAILURE_TTL"],
    )


def _http_limits(values: Mapping[str, Any]) -> HttpLimits:
    return HttpLimits(
        connections=values["NIXERY_MAX_CONNECTIONS"],
        client_connections=values["NIXERY_CLIENT_CONNECTIONS"],
        client_requests=values["NIXERY_CLIENT_REQUESTS"],
        header_seconds=values["NIXERY_HEADER_TIMEOUT"],
        header_size=values["NIXERY_HEADER_SIZE"],
        idle_seconds=values["NIXERY_IDLE_TIMEOUT"],
        write_seconds=values["NIXERY_WRITE_TIMEOUT"],
    )


def _disk_limits(values: Mapping[str, Any]) -> DiskLimits:
    return DiskLimits(
        storage_max=values["NIXERY_STORAGE_MAX"],
        storage_grace=values["NIXERY_STORAGE_GRACE"],
        scrub_days=values["NIXERY_SCRUB_DAYS"],
        nix_keep_days=values["NIXERY_NIX_KEEP_DAYS"],
        nix_min_free=values["NIXERY_NIX_MIN_FREE"],
    )


def _bucket_choice(values: Mapping[str, Any], faults: list[str]) -> BucketChoice | None:
    key, account = values["GCS_SIGNING_KEY"], values["GCS_SIGNING_ACCOUNT"]
    if bool(key) != bool(account):
        there, lacking = "GCS_SIGNING_KEY", "GCS_SIGNING_ACCOUNT"
        if account:
            there, lacking = lacking, there
        faults.append(f"{there} is set without {lacking}; signing takes both")
    backend = values["NIXERY_STORAGE_BACKEND"]
    if backend == "gcs" and not values["BUCKET"]:
        faults.append("NIXERY_STORAGE_BACKEND is 'gcs'; BUCKET must name a bucket then")
    if backend == "filesystem" or not values["BUCKET"]:
        return None
    redirect = values["NIXERY_STORAGE_REDIRECT"] == "on"
    return BucketChoice(values["BUCKET"], key, account, values["GCS_URL_LIFETIME"], redirect)


def _source(
    environ: Mapping[str, str], values: Mapping[str, Any], faults: list[str]
) -> Source | None:
    named = [name for name in SOURCES if environ.get(name)]
    if len(named) > 1:
        faults.append(f"{' and '.join(named)} are set; a registry has one package set")
        return None
    for name in ("NIXERY_TAGS", "NIXERY_UNREACHABLE_COMMITS"):
        said = values[name] not in (None, "off")
        if said and (values["NIXERY_PKGS_PATH"] or values["NIXERY_FLAKE"]):
            faults.append(f"{name} is set; a folder or flake has the tag latest alone")
    if values["NIXERY_PKGS_REPO"]:
        return GitRepository(values["NIXERY_PKGS_REPO"])
    if values["NIXERY_FLAKE"]:
        if values["NIXERY_NIXPKGS_CONFIG"]:
            faults.append("NIXERY_NIXPKGS_CONFIG is set; a flake's packages can't be told it")
        return Flake(values["NIXERY_FLAKE"])
    path = values["NIXERY_PKGS_PATH"]
    if path:
        if not os.path.exists(path):
            faults.append(f"NIXERY_PKGS_PATH is {path!r}; there is nothing of that name")
        return Folder(path)
    return Channel(values["NIXERY_CHANNEL"] or DEFAULT_CHANNEL, values["NIXERY_NIXPKGS_URL"] or "")


def _tags(patterns: str | None, source: Source) -> TagPolicy:
    default = "*" if isinstance(source, GitRepository) else ""
    return TagPolicy(tuple((patterns or default).split()))


def _handover(values: Mapping[str, Any]) -> bool:
    """Whoever holds the socket hands those who ask again to the next daemon."""
    if values["NIXERY_HANDOVER"] is None:
        return (values["NIXERY_LISTEN"] or "").startswith("systemd:")
    return bool(values["NIXERY_HANDOVER"] == "on")


def _state_folder(environ: Mapping[str, str]) -> str:
    """systemd's state folder, else the user's by the XDG base directory specification."""
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    home = environ.get("HOME") or os.path.expanduser("~")
    base = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return os.path.join(base, "nixery")
