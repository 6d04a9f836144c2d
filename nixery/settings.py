"""What an operator may set, read from environment variables and checked as a whole."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from nixery.model.source import Channel, Folder, GitRepository, Source
from nixery.packing.compress import COMPRESSIONS

DEFAULT_CHANNEL = "nixos-unstable"


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


def _number(least: float, most: float, kind: type = int) -> Callable[[str], Any]:
    digits = re.compile(r"[0-9]{1,9}" if kind is int else r"[0-9]{1,9}([.][0-9]{1,9})?")

    def read(text: str) -> Any:
        # Digits alone: Python would take 8_080, and digits of every script, for numbers too.
        if not digits.fullmatch(text) or not least <= kind(text) <= most:
            word = "whole number" if kind is int else "number"
            raise ValueError(f"a {word} from {least} to {most}")
        return kind(text)

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return read


def _bucket(text: str) -> str:
    # https://cloud.google.com/storage/docs/buckets#naming
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", text):
        raise ValueError("the name of a bucket: small letters, digits, '-', '_' and '.'")
    return text


def _absolute(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("an absolute path")
    return text


def _url(*schemes: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise ValueError(f"a URL that begins with {' or '.join(schemes)}")
        return text

    return read


VARIABLES = (
    Variable("PORT", "Port to listen on.", _number(0, 65535), "8080"),
    Variable("NIXERY_LISTEN", "Any Twisted endpoint string to listen on instead of PORT."),
    Variable("NIXERY_CHANNEL", f"Package set: a channel ({DEFAULT_CHANNEL} if no set is named)."),
    Variable("NIXERY_PKGS_REPO", "Package set: the URL of a git repository with a default.nix."),
    Variable("NIXERY_PKGS_PATH", "Package set: a folder of Nix expressions.", _absolute),
    Variable(
        "NIXERY_STORAGE_BACKEND",
        "Where images are kept: filesystem or gcs (gcs if a bucket is named, else filesystem).",
        _one_of("filesystem", "gcs"),
    ),
    Variable("STORAGE_PATH", "Folder of the filesystem storage (in the state folder).", _absolute),
    Variable(
        "BUCKET",
        "Bucket of Google Cloud Storage; GCS_BUCKET is another name.",
        _bucket,
        "",
        "GCS_BUCKET",
    ),
    Variable(
        "GCS_SIGNING_KEY",
        "Private key of a service account, a PEM file, for signed URLs (the default credentials "
        "sign, or the bucket is public).",
        _absolute,
    ),
    Variable("GCS_SIGNING_ACCOUNT", "E-mail address of that service account."),
    Variable(
        "GCS_URL_LIFETIME", "Seconds that a signed URL is good for.", _number(20, 604000), "300"
    ),
    Variable(
        "NIXERY_STORAGE_REDIRECT",
        "Whether clients load blobs from the bucket itself: on or off.",
        _one_of("on", "off"),
        "on",
    ),
    Variable("NIX_TIMEOUT", "Seconds that a Nix builder may run.", _number(1, 604800), "600"),
    Variable(
        "NIXERY_NIX_STORE",
        "Folder for a Nix store of Nixery's own (the machine's store if there is one).",
        _absolute,
    ),
    Variable("NIXERY_LAYER_BUDGET", "Most layers that an image may have.", _number(1, 120), "94"),
    Variable(
        "NIX_POPULARITY_URL",
        "Popularity counts of the package set, as nixery-popcount writes them (http, https or "
        "file URL).",
        _url("http", "https", "file"),
    ),
    Variable(
        "NIXERY_COMPRESSION",
        f"How layers are compressed: {', '.join(COMPRESSIONS)}.",
        _one_of(*COMPRESSIONS),
        "fast",
    ),
    Variable(
        "NIXERY_PACKERS",
        "Layers that are packed at once, each by a process (one for each processor).",
        _number(1, 256),
    ),
    Variable(
        "NIXERY_HOLD",
        "Seconds that a request waits for a build before it is redirected to itself.",
        _number(0.1, 3600, float),
        "25",
    ),
    Variable(
        "NIXERY_REVISION_TTL",
        "Seconds that a git source's branches and tags are remembered.",
        _number(0, 86400, float),
        "30",
    ),
)

SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH")
"""Variables that name the package set: at most one of them may be set."""


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
    :param revision_ttl: seconds.
    """

    endpoint: str
    source: Source
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

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and check all settings.

        :raises SettingsInvalid: naming every fault.
        """
        faults: list[str] = []
        values = {v.name: _value(v, environ, faults) for v in VARIABLES}
        source = _source(values, faults)
        bucket = _bucket_choice(values, faults)
        if faults or source is None:
            raise SettingsInvalid(faults)
        state = _state_folder(environ)
        return cls(
            endpoint=values["NIXERY_LISTEN"] or f"tcp:{values['PORT']}",
            source=source,
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
        faults.append(f"{name} is {text!r}; it must be {error}")
        return None


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


def _source(values: Mapping[str, Any], faults: list[str]) -> Source | None:
    named = [name for name in SOURCES if values[name]]
    if len(named) > 1:
        faults.append(f"{' and '.join(named)} are set; a registry has one package set")
        return None
    if values["NIXERY_PKGS_REPO"]:
        return GitRepository(values["NIXERY_PKGS_REPO"])
    path = values["NIXERY_PKGS_PATH"]
    if path:
        if not os.path.exists(path):
            faults.append(f"NIXERY_PKGS_PATH is {path!r}; there is nothing of that name")
        return Folder(path)
    return Channel(values["NIXERY_CHANNEL"] or DEFAULT_CHANNEL)


def _state_folder(environ: Mapping[str, str]) -> str:
    """systemd's state folder, else the user's by the XDG base directory specification."""
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0]
    home = environ.get("HOME") or os.path.expanduser("~")
    base = environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return os.path.join(base, "nixery")
