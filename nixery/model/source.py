"""Where packages come from, pinned to a revision, and the key of an image made from them."""

import hashlib
import json
import re
from typing import Any

import attrs

from nixery.model.image import ALWAYS, Image

FORMAT_VERSION = 1
"""Raised whenever the same packages would give other bytes than before."""

NIXPKGS_URL = "https://github.com/NixOS/nixpkgs"

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+")


@attrs.frozen
class Channel:
    """A channel of nixpkgs, such as ``nixos-unstable``: a branch of its repository."""

    name: str

    def __str__(self) -> str:
        return f"the channel {self.name}"


@attrs.frozen
class GitRepository:
    """A git repository whose ``default.nix`` is the package set.

    :param url: as ``git clone`` takes it; it may hold credentials, so it is shown by
        :meth:`__str__` only.
    """

    url: str

    def __str__(self) -> str:
        return f"the repository {without_credentials(self.url)}"


@attrs.frozen
class Folder:
    """A folder (or file) of Nix expressions on this machine.

    :param path: absolute. Clients are shown its last step: where it lies is nobody else's business.
    """

    path: str

    def __str__(self) -> str:
        return f"the folder {self.path.rstrip('/').rpartition('/')[2] or '/'}"


Source = Channel | GitRepository | Folder


@attrs.frozen
class PinnedSource:
    """A source at one immutable revision.

    :param revision: the commit's full hexadecimal id, or a folder's fingerprint.
    """

    source: Source
    revision: str

    def request(self) -> dict[str, str]:
        """What the Nix expression fetches: data for ``nix/realise.nix``."""
        match self.source:
            case Channel():
                url = f"{NIXPKGS_URL}/archive/{self.revision}.tar.gz"
                return {"type": "tarball", "url": url}
            case GitRepository(url=url):
                return {"type": "git", "url": url, "rev": self.revision}
            case Folder(path=path):
                return {"type": "folder", "path": path}


def without_credentials(url: str) -> str:
    """The URL as it may be shown: what stands before an ``@`` of its host is left out."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def hide_credentials(text: str) -> str:
    """A text in which every URL is as it may be shown."""
    return _URL.sub(lambda match: without_credentials(match[0]), text)


def image_key(image: Image, pinned: PinnedSource, budget: int, packer: str) -> str:
    """The key under which an image's manifest is remembered.

    It is known before Nix is asked, and differs whenever the manifest might.

    :param budget: the most layers an image may have.
    :param packer: the packer's version: what the bytes of a layer depend on besides its files.
    :return: 64 hexadecimal digits.
    """
    return canonical_sha256(
        {
            "packages": image.packages,
            "always": ALWAYS,
            "shell": image.shell,
            "system": image.system,
            "source": [type(pinned.source).__name__, attrs.asdict(pinned.source)],
            "revision": pinned.revision,
            "budget": budget,
            "packer": packer,
            "format": FORMAT_VERSION,
        }
    )


def canonical_sha256(value: Any) -> str:
    """The sha256 of a value's canonical JSON: sorted keys, no spaces, ASCII only."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
