"""How the text of settings is read that are of a form of their own.

Each function takes a text and gives its value; a ``ValueError`` says what is expected.
"""

import json
import os
from collections.abc import Callable
from ipaddress import ip_network
from urllib.parse import urlsplit

from nixery.model.image import SYSTEMS
from nixery.model.setting import matching
from nixery.model.source import Configuration, canonical_json

bucket = matching(
    # https://cloud.google.com/storage/docs/buckets#naming
    r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]",
    "the name of a bucket: lower-case letters, digits, '-', '_' and '.'",
)
s3_bucket = matching(
    # Of services other than Amazon's, some take more than it does.
    r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]",
    "the name of a bucket: letters, digits, '-', '_' and '.'",
)
git_url = matching(
    # Neither options of git, nor what a remote helper of another kind would run.
    r"(https?|ssh|file)://\S+|[A-Za-z0-9][A-Za-z0-9._@-]*:(?!:|//)\S+",
    "a URL that begins with http, https, ssh or file, or host:path",
)
location = matching(
    r"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+",
    "a path in a URL that begins and ends with '/': /_blobs/",
)
_path = matching(
    r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?",
    "words of letters, digits, '.', '_' and '-' with '/' between them; none begins with '.'",
)
revision = matching(
    r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._/+-]*", "the name of a branch, or a full commit"
)


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of some schemes."""

    def read(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise ValueError(f"a URL that begins with {' or '.join(schemes)}")
        return text

    return read


def s3_prefix(text: str) -> str:
    """The beginning of objects' names, with a slash at its end."""
    return _path(text).removesuffix("/") + "/"


def uris(text: str) -> tuple[str, ...]:
    """Beginnings of URIs."""
    for word in text.split():
        parts = urlsplit(word)
        if not parts.scheme or parts.scheme.endswith("file") or not (parts.netloc or parts.path):
            raise ValueError("URIs such as https://github.com/, with spaces between, and no files")
    return tuple(text.split())


def addresses(text: str) -> str:
    """Addresses and networks of IP, and the word ``unix``."""
    for word in text.replace(",", " ").split():
        try:
            if word != "unix":
                ip_network(word)
        except ValueError:
            raise ValueError("IP addresses and networks, or unix, with spaces between") from None
    return text


def platforms(text: str) -> tuple[str, ...]:
    """Platforms, as the Nix systems that they stand for."""
    words = text.replace(",", " ").split()
    if not words or not SYSTEMS.keys() >= set(words):
        raise ValueError(f"one or more of {', '.join(SYSTEMS)}, with commas between")
    return tuple(dict.fromkeys(SYSTEMS[word] for word in words))


def nixpkgs_config(text: str) -> Configuration:
    """The configuration of a package set: JSON, or the path of a file with it."""
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
