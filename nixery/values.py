"""How the values of settings are written, and read from text.

Each reader takes a text and gives its value; a ``ValueError`` says what is expected.
"""

import json
import os
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from nixery.model.identity import AUTO, OFF
from nixery.model.source import Configuration, canonical_json

# Options of git, and what a remote helper of another kind would run, are none of these.
_GIT_URL = re.compile(r"(https?|ssh|file)://\S+|[A-Za-z0-9][A-Za-z0-9._@-]*:(?!:|//)\S+")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def number(least: float, most: float, kind: type = int) -> Callable[[str], Any]:
    """A number in a range, written in digits."""
    digits = re.compile(r"[0-9]{1,9}" if kind is int else r"[0-9]{1,9}([.][0-9]{1,9})?")

    def read(text: str) -> Any:
        # Digits alone: Python would take 8_080, and digits of every script, for numbers too.
        if not digits.fullmatch(text) or not least <= kind(text) <= most:
            word = "whole number" if kind is int else "number"
            raise ValueError(f"a {word} from {least} to {most}")
        return kind(text)

    return read


def size(least: int) -> Callable[[str], int]:
    """A number of bytes, at least so many, which may end with a unit."""

    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,9})([KMGT]?)", text)
        if match is None or (size := int(match[1]) * _UNITS[match[2]]) < least:
            raise ValueError(
                "bytes, or a size such as 500M or 20G" + f", at least {least}" * (least > 0)
            )
        return size

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """One of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return read


def bucket(text: str) -> str:
    """The name of a bucket."""
    # https://cloud.google.com/storage/docs/buckets#naming
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", text):
        raise ValueError("the name of a bucket: small letters, digits, '-', '_' and '.'")
    return text


def absolute(text: str) -> str:
    """An absolute path."""
    if not os.path.isabs(text):
        raise ValueError("an absolute path")
    return text


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of some schemes."""

    def read(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise ValueError(f"a URL that begins with {' or '.join(schemes)}")
        return text

    return read


def uris(text: str) -> str:
    """Beginnings of URIs."""
    for word in text.split():
        parts = urlsplit(word)
        if not parts.scheme or parts.scheme.endswith("file") or not (parts.netloc or parts.path):
            raise ValueError("URIs such as https://github.com/, with spaces between, and no files")
    return text


def addresses(text: str) -> str:
    """Addresses and networks of IP, and the word ``unix``."""
    for word in text.replace(",", " ").split():
        try:
            if word != "unix":
                ip_network(word)
        except ValueError:
            raise ValueError("IP addresses and networks, or unix, with spaces between") from None
    return text


def token_server(text: str) -> str:
    """The URL of a token server, fit for a quoted string in a header."""
    if not re.fullmatch(r"https?://[!#-\[\]-~]+", text):
        raise ValueError("a URL that begins with https or http")
    return text


def word(text: str) -> str:
    """A word that is fit for a quoted string in a header."""
    if not re.fullmatch(r"[!#-\[\]-~]+", text):
        raise ValueError("ASCII without spaces, quotes and backslashes")
    return text


def image_source(text: str) -> str:
    """What images name as their source: a URL that everybody may be told, or a word."""
    if text not in (AUTO, OFF) and not re.fullmatch(r"https?://[!#-?A-\[\]-~]+", text):
        raise ValueError(f"{AUTO}, {OFF}, or a URL that begins with https or http, without '@'")
    return text


def git_url(text: str) -> str:
    """The URL of a git repository."""
    if not _GIT_URL.fullmatch(text):
        raise ValueError("a URL that begins with http, https, ssh or file, or host:path")
    return text


def revision(text: str) -> str:
    """The name of a branch, or a commit."""
    if not _REVISION.fullmatch(text) or ".." in text:
        raise ValueError("the name of a branch, or a full commit")
    return text


def nixpkgs_config(text: str) -> Configuration:
    """What a package set is told: JSON, or the path of a file with it."""
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
