"""The environment variables that an operator may set, and how each is read."""

import json
import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import attrs

from nixery.model.source import NIXPKGS_URL, Configuration, canonical_json
from nixery.packing.compress import COMPRESSIONS

# Options of git, and what a remote helper of another kind would run, are none of these.
_GIT_URL = re.compile(r"(https?|ssh|file)://\S+|[A-Za-z0-9][A-Za-z0-9._@-]*:(?!:|//)\S+")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

DEFAULT_CHANNEL = "nixos-unstable"
PAGES = ("all", "no-logs", "off")
"""What may be shown of builds: everything, everything but what packages print, nothing."""


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


def _size(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([KMGT]?)", text)
        if match is None or (size := int(match[1]) * _UNITS[match[2]]) < least:
            raise ValueError(
                "bytes, or a size such as 500M or 20G" + f", at least {least}" * (least > 0)
            )
        return size

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


def _addresses(text: str) -> str:
    for word in text.replace(",", " ").split():
        try:
            if word != "unix":
                ip_network(word)
        except ValueError:
            raise ValueError("IP addresses and networks, or unix, with spaces between") from None
    return text


def _token_server(text: str) -> str:
    if not re.fullmatch(r"https?://[!#-\[\]-~]+", text):
        raise ValueError("a URL that begins with https or http")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[!#-\[\]-~]+", text):
        raise ValueError("ASCII without spaces, quotes and backslashes")
    return text


def _git_url(text: str) -> str:
    if not _GIT_URL.fullmatch(text):
        raise ValueError("a URL that begins with http, https, ssh or file, or host:path")
    return text


def _revision(text: str) -> str:
    if not _REVISION.fullmatch(text) or ".." in text:
        raise ValueError("the name of a branch, or a full commit")
    return text


def _nixpkgs_config(text: str) -> Configuration:
    expected = "a JSON object, or the absolute path of a file with one"
    try:
        if os.path.isabs(text):
            with open(text, encoding="utf-8") as file:
                text = file.read()
        document = json.loads(text)
    except OSError as error:
        raise ValueError(f"{expected}: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise ValueError(expected) from None
    if not isinstance(document, dict):
        raise ValueError(expected)
    overlays = document.pop("overlays", None)
    if overlays is not None and not (isinstance(overlays, str) and os.path.isabs(overlays)):
        raise ValueError(f"{expected}, in which 'overlays' is the absolute path of a Nix file")
    return Configuration(canonical_json(document), overlays)


VARIABLES = (
    Variable("PORT", "Port to listen on.", _number(0, 65535), "8080"),
    Variable("NIXERY_LISTEN", "Any Twisted endpoint string to listen on instead of PORT."),
    Variable(
        "NIXERY_TLS_CERT",
        "Certificate, a PEM file with the chain behind it: TLS is spoken, whatever the endpoint.",
        _absolute,
    ),
    Variable("NIXERY_TLS_KEY", "Private key of that certificate, a PEM file.", _absolute),
    Variable(
        "NIXERY_TRUSTED_PROXIES",
        "Addresses and networks of proxies whose X-Forwarded-For, -Proto and -Host are believed; "
        "unix for those on a UNIX socket.",
        _addresses,
    ),
    Variable(
        "NIXERY_HTPASSWD", "Users and passwords: a file that htpasswd -B has written.", _absolute
    ),
    Variable(
        "NIXERY_TOKENS",
        "Static bearer tokens: a file with a line user:SHA-256 of the token for each.",
        _absolute,
    ),
    Variable(
        "NIXERY_JWT_KEY",
        "Public key of a token server: PEM, or a key set (JWKS).",
        _absolute,
    ),
    Variable("NIXERY_JWT_REALM", "URL at which clients get its tokens.", _token_server),
    Variable("NIXERY_JWT_AUDIENCE", "What it calls this registry (service, aud).", _word),
    Variable("NIXERY_JWT_ISSUER", "What its tokens call it, iss (not looked at)."),
    Variable(
        "NIXERY_RULES",
        "Which packages and tags each user may pull: a TOML file (everything).",
        _absolute,
    ),
    Variable(
        "NIXERY_CHANNEL",
        "Package set: a channel, branch or full commit of nixpkgs "
        f"({DEFAULT_CHANNEL} if no set is named).",
        _revision,
    ),
    Variable(
        "NIXERY_PKGS_REPO",
        "Package set: the URL of a git repository with a default.nix (https, http, ssh, file or "
        "host:path).",
        _git_url,
    ),
    Variable("NIXERY_PKGS_PATH", "Package set: a folder of Nix expressions.", _absolute),
    Variable(
        "NIXERY_FLAKE",
        "Package set: a flake reference, of which legacyPackages or packages are served.",
    ),
    Variable(
        "NIXERY_NIXPKGS_URL",
        "A mirror of nixpkgs for channels: any git URL.",
        _git_url,
        NIXPKGS_URL,
    ),
    Variable(
        "NIXERY_NIXPKGS_CONFIG",
        "What the package set is told: JSON of nixpkgs' config, besides which 'overlays' may name "
        "a Nix file; or the absolute path of a file with that JSON.",
        _nixpkgs_config,
    ),
    Variable(
        "NIXERY_TAGS",
        "Tags that are served besides latest: patterns such as 'nixos-* 20??-??-??', with spaces "
        "between them (* for a git repository, none for a channel).",
    ),
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
    Variable(
        "NIXERY_STALE_IF_ERROR",
        "Whether the last known revision of a tag is served while the source can't be reached.",
        _one_of("on", "off"),
        "on",
    ),
    Variable(
        "NIXERY_PAGES",
        f"What is shown of builds below /builds: {', '.join(PAGES)}.",
        _one_of(*PAGES),
        "all",
    ),
    Variable(
        "NIXERY_HISTORY_DAYS",
        "Days that a build's history is kept.",
        _number(0, 36500, float),
        "7",
    ),
    Variable(
        "NIXERY_HISTORY_SIZE",
        "Most megabytes that the history of builds takes on disk; the oldest goes first.",
        _number(1, 100_000_000),
        "1000",
    ),
    Variable("NIXERY_MAX_BUILDS", "Images that are made at once.", _number(1, 1000), "4"),
    Variable(
        "NIXERY_MAX_QUEUE",
        "Images that wait to be made, those of each client in turn; beyond that, answers are 429.",
        _number(0, 100_000),
        "200",
    ),
    Variable(
        "NIXERY_BUILD_TIMEOUT",
        "Seconds that making an image may take, without its wait in the queue.",
        _number(1, 604800),
        "3600",
    ),
    Variable("NIXERY_MAX_PACKAGES", "Packages that an image may name.", _number(1, 128), "64"),
    Variable(
        "NIXERY_MAX_CLOSURE",
        "Most bytes of an image's packages with all that they need: 500M, 20G.",
        _size(1),
        "20G",
    ),
    Variable(
        "NIXERY_FAILURE_TTL",
        "Seconds in which an image that could not be made is not tried again.",
        _number(0, 86400, float),
        "60",
    ),
    Variable(
        "NIXERY_MAX_CONNECTIONS",
        "Connections at once; of those beyond, the ones that are idle longest are closed.",
        _number(10, 1_000_000),
        "4000",
    ),
    Variable(
        "NIXERY_CLIENT_CONNECTIONS",
        "Connections of one client at once, in the same way.",
        _number(1, 1_000_000),
        "256",
    ),
    Variable(
        "NIXERY_CLIENT_REQUESTS",
        "Requests of one client that are answered at once; beyond that, answers are 429.",
        _number(1, 1_000_000),
        "128",
    ),
    Variable(
        "NIXERY_HEADER_TIMEOUT",
        "Seconds that a request's headers may take to arrive.",
        _number(0.1, 3600, float),
        "20",
    ),
    Variable("NIXERY_HEADER_SIZE", "Bytes of a request's headers: 32K.", _size(4000), "32K"),
    Variable(
        "NIXERY_IDLE_TIMEOUT",
        "Seconds that a connection without a request is kept.",
        _number(0.1, 86400, float),
        "120",
    ),
    Variable(
        "NIXERY_WRITE_TIMEOUT",
        "Seconds in which a client takes some of what is sent to it.",
        _number(0.1, 86400, float),
        "60",
    ),
    Variable(
        "NIXERY_STORAGE_MAX",
        "Most that the filesystem storage may hold, as 500M or 20G; images that were not pulled "
        "for longest go first (no bound).",
        _size(1),
    ),
    Variable(
        "NIXERY_SCRUB_DAYS",
        "Days in which every blob on disk is verified once, in the background; 0 for never.",
        _number(0, 36500, float),
        "30",
    ),
    Variable(
        "NIXERY_NIX_KEEP_DAYS",
        "Days that Nix's garbage collector keeps an image's packages after they were last needed.",
        _number(0, 36500, float),
        "30",
    ),
    Variable(
        "NIXERY_NIX_MIN_FREE",
        "Room to keep free for the Nix store: with less, what nobody keeps is collected; 0 for "
        "never (5G for a store of Nixery's own, never for the machine's).",
        _size(0),
    ),
    Variable(
        "NIXERY_DRAIN",
        "Seconds that answers in flight get when the daemon is stopped.",
        _number(0, 86400, float),
        "30",
    ),
    Variable(
        "NIXERY_OPERATIONS_LISTEN",
        "Endpoint string for /healthz, /readyz and /metrics, which then are not on the main port.",
    ),
    Variable(
        "NIXERY_LOG_FORMAT",
        "How the log is written: text or json.",
        _one_of("text", "json"),
        "text",
    ),
)

SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH", "NIXERY_FLAKE")
"""Variables that name the package set: at most one of them may be set."""
