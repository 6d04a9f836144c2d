"""All settings, read from environment variables and checked as a whole.

Each is declared once, as a field of one of the classes that :class:`Settings` holds, with its help
text among the ``:param:``s of that class; a part of the daemon is given the object that is meant
for it. Options, ``--help``, checks and the tables of docs/settings.md, which ``make docs`` writes,
follow from the declarations.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from nixery.model.access_files import AccessFiles
from nixery.model.identity import Naming
from nixery.model.image import AMD64, ARM64
from nixery.model.limits import BuildLimits, DiskLimits, HistoryLimits, HttpLimits
from nixery.model.setting import Setting, settings_of
from nixery.model.signing import Signing
from nixery.setting_groups import (
    Address,
    Ahead,
    BucketChoice,
    Evaluation,
    ImageSettings,
    PackageSet,
    Revisions,
    S3Choice,
    Shown,
    Stopping,
    StoragePlace,
    Transport,
    Watching,
)
from nixery.state_folder import state_folder
from nixery.unknown import unknown_variables

SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH", "NIXERY_FLAKE")
"""Variables that name the package set: at most one of them may be set."""


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
class Settings:
    """All settings, valid together, in the order of docs/settings.md.

    :param state: the state folder, which holds what the daemon writes.
    """

    address: Address
    packages: PackageSet
    naming: Naming
    revisions: Revisions
    shown: Shown
    history: HistoryLimits
    ahead: Ahead
    transport: Transport
    access: AccessFiles
    signing: Signing
    evaluation: Evaluation
    builds: BuildLimits
    http: HttpLimits
    disk: DiskLimits
    stopping: Stopping
    operations: Watching
    storage: StoragePlace
    bucket_choice: BucketChoice
    s3_choice: S3Choice
    images: ImageSettings
    state: str

    @property
    def bucket(self) -> BucketChoice | S3Choice | None:
        """The bucket that images are kept in, if they are not kept in a folder."""
        backend, gcs, s3 = self.storage.backend, self.bucket_choice, self.s3_choice
        if backend == "gcs" or (backend is None and gcs.name):
            return gcs
        return s3 if backend == "s3" or (backend is None and s3.name) else None

    @property
    def storage_url(self) -> str:
        """Where images are kept: a folder, or a bucket with its scheme."""
        if (found := self.bucket) is None:
            return self.storage_path
        return f"{found.scheme}://{found.name}/{found.prefix}".rstrip("/")

    @property
    def storage_path(self) -> str:
        """The folder of the filesystem storage."""
        return self.storage.folder or os.path.join(self.state, "storage")

    @property
    def systems(self) -> tuple[str, ...]:
        """The Nix systems of images whose names say no platform; the first is the usual one."""
        own = ARM64 if os.uname().machine in ("aarch64", "arm64") else AMD64
        return self.images.platforms or (own,)

    @property
    def handover(self) -> bool:
        """Whether another daemon answers in its place when this one stops: systemd, which holds
        the socket, passes it to the next one."""
        if self.stopping.handover is None:
            return self.address.endpoint.startswith("systemd:")
        return self.stopping.handover

    @property
    def folders(self) -> dict[str, str]:
        """The folders that must be the daemon's alone, by what they are."""
        storage = {} if self.bucket is not None else {"storage": self.storage_path}
        return {"state": self.state, **storage}

    @property
    def files(self) -> list[str]:
        """Files with secrets, or with rules."""
        named = [*(self.transport.tls or ()), *attrs.astuple(self.access), *self.signing.keys]
        if isinstance(self.bucket, BucketChoice):
            named.append(self.bucket.signing_key)
        return [path for path in named if isinstance(path, str) and os.path.isabs(path)]

    @property
    def paths(self) -> list[str]:
        """All files and folders that are named; they may be in the daemon's own folders."""
        others = (self.images.nix_store, self.packages.path)
        return [*self.folders.values(), *filter(None, others), *self.files]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check all settings.

        :raises SettingsInvalid: naming every fault.
        """
        faults = unknown_variables(environ, NAMES)
        values = {each.variable: each.value(environ, faults) for each in SETTINGS}
        _check_source(environ, values, faults)
        _check_bucket(values, faults)
        _check_together(values, faults)
        if faults:
            raise SettingsInvalid(faults)
        groups = {
            name: group(
                **{field: values[one.variable] for field, one in settings_of(group).items()}
            )
            for name, group in _GROUPS.items()
        }
        return cls(state=state_folder(environ), **groups)


_CHAPTERS = {
    "Where it listens": ("address",),
    "Package set and names": ("packages", "naming", "revisions"),
    "Pages and builds": ("shown", "history"),
    "Builds in advance, notifications": ("ahead",),
    "Who may pull what": ("transport", "access"),
    "Signing images": ("signing",),
    "What a package set may do": ("evaluation",),
    "Limits": ("builds", "http", "disk", "stopping"),
    "Watch it": ("operations",),
    "Where images are kept": ("storage", "bucket_choice", "s3_choice"),
    "How images are made": ("images",),
}
_GROUPS: dict[str, Any] = {
    name: getattr(attrs.fields(Settings), name).type
    for names in _CHAPTERS.values()
    for name in names
}
CHAPTERS: Mapping[str, Sequence[Setting]] = {
    title: [each for name in names for each in settings_of(_GROUPS[name]).values()]
    for title, names in _CHAPTERS.items()
}
"""All settings, by the titles of docs/settings.md."""
SETTINGS = tuple(each for chapter in CHAPTERS.values() for each in chapter)
NAMES = frozenset(each.variable for each in SETTINGS)


def _check_source(environ: Mapping[str, str], values: Mapping[str, Any], faults: list[str]) -> None:
    named = [name for name in SOURCES if environ.get(name)]
    if len(named) > 1:
        faults.append(f"{' and '.join(named)} are set; a registry has one package set")
        return
    path, flake = values["NIXERY_PKGS_PATH"], values["NIXERY_FLAKE"]
    for name in ("NIXERY_TAGS", "NIXERY_UNREACHABLE_COMMITS"):
        if values[name] and (path or flake):
            faults.append(f"{name} is set; a folder or flake has the tag latest alone")
    if flake and values["NIXERY_NIXPKGS_CONFIG"]:
        faults.append("NIXERY_NIXPKGS_CONFIG is set; a flake's packages can't be given it")
    if path and not os.path.exists(path):
        faults.append(f"NIXERY_PKGS_PATH is {path!r}; there is no such file or folder")


def _check_bucket(values: Mapping[str, Any], faults: list[str]) -> None:
    _check_all_or_none(values, ("GCS_SIGNING_KEY", "GCS_SIGNING_ACCOUNT"), faults)
    backend, buckets = values["NIXERY_STORAGE_BACKEND"], {"gcs": "BUCKET", "s3": "S3_BUCKET"}
    if backend in buckets and not values[buckets[backend]]:
        text = f"NIXERY_STORAGE_BACKEND is {backend!r}; {buckets[backend]} must name a bucket then"
        faults.append(text)
    if backend is None and all(values[name] for name in buckets.values()):
        faults.append("BUCKET and S3_BUCKET are set; NIXERY_STORAGE_BACKEND must say which counts")
    named = any(values[name] for name in buckets.values())
    if values["NIXERY_ACCEL"] and backend != "filesystem" and named:
        faults.append("NIXERY_ACCEL is set; nginx can't send blobs of a bucket by itself")


def _check_together(values: Mapping[str, Any], faults: list[str]) -> None:
    _check_all_or_none(values, ("NIXERY_TLS_CERT", "NIXERY_TLS_KEY"), faults)
    if (values["NIXERY_WORKERS"] or 1) > 1 and (values["NIXERY_TLS_CERT"] or _speaks_tls(values)):
        faults.append(
            "NIXERY_WORKERS is more than 1 with TLS, which one process alone speaks; let a proxy "
            "in front speak it"
        )
    token_server = ("NIXERY_JWT_KEY", "NIXERY_JWT_REALM", "NIXERY_JWT_AUDIENCE")
    _check_all_or_none(values, token_server, faults)
    if values["NIXERY_NOTIFY_SECRET_FILE"] and not values["NIXERY_NOTIFY_URL"]:
        faults.append(
            "NIXERY_NOTIFY_SECRET_FILE is set without NIXERY_NOTIFY_URL; they go together"
        )
    if values["NIXERY_ACCEL"] and not values["NIXERY_TRUSTED_PROXIES"]:
        faults.append("NIXERY_ACCEL is set; NIXERY_TRUSTED_PROXIES must name the proxy then")
    if values["NIXERY_SIGNING_HOST"] and not values["NIXERY_SIGNING_KEY"]:
        faults.append("NIXERY_SIGNING_HOST is set without NIXERY_SIGNING_KEY; nothing is signed")
    if values["NIXERY_JWT_ISSUER"] and not values["NIXERY_JWT_KEY"]:
        faults.append("NIXERY_JWT_ISSUER is set without NIXERY_JWT_KEY; they go together")


def _speaks_tls(values: Mapping[str, Any]) -> bool:
    return (values["NIXERY_LISTEN"] or "").startswith("ssl:")


def _check_all_or_none(
    values: Mapping[str, Any], names: tuple[str, ...], faults: list[str]
) -> None:
    there = [name for name in names if values[name]]
    lacking = [name for name in names if not values[name]]
    if there and lacking:
        faults.append(f"{there[0]} is set without {' and '.join(lacking)}; they go together")
