"""Package sources, and their pins to a revision."""

import hashlib
import json
import re
from typing import Any, ClassVar

import attrs

NIXPKGS_URL = "https://github.com/NixOS/nixpkgs"

# Without the scheme: to look for one takes time that grows with the square of a word's length.
_URL = re.compile(r"://[^\s'\"]+")
_LOCAL = re.compile(r"(?:(?:[a-z]+\+)?file:(?://[^/?#]*)?|path:)?(/[^?#]*)")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What flake references say in their queries.
_NO_SECRET = {
    "host",
    "dir",
    "ref",
    "rev",
    "narHash",
    "lastModified",
    "revCount",
    "shallow",
    "submodules",
}
_HEADER_UNSAFE = re.compile(r"[^!-~ ]")


# --- sources, as an operator names them ---------------------------------------------------


class _Named:
    """The names of a source: in headers, and in sentences."""

    __slots__ = ()

    _kind: ClassVar[str]
    _noun: ClassVar[str]

    @property
    def _shown(self) -> str:
        """The source as clients may see it: without credentials and places on this machine."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """The name of the source in HTTP headers."""
        return f"{self._kind}:{self._shown}"

    def __str__(self) -> str:
        return f"the {self._noun} {self._shown}"


@attrs.frozen
class Channel(_Named):
    """A channel of nixpkgs, such as ``nixos-unstable``: a branch of its repository.

    :param name: of the branch, or a full commit.
    :param url: of nixpkgs or a mirror, as ``git clone`` takes it; it may hold credentials.
    """

    _kind = _noun = "channel"

    name: str
    url: str = NIXPKGS_URL

    @property
    def _shown(self) -> str:
        return self.name


@attrs.frozen
class GitRepository(_Named):
    """A git repository whose ``default.nix`` is the package set.

    :param url: as ``git clone`` takes it; it may hold credentials, so it is shown by
        :meth:`__str__` and :attr:`label` only.
    """

    _kind, _noun = "git", "repository"

    url: str

    @property
    def _shown(self) -> str:
        return hide_place(self, without_credentials(self.url))


@attrs.frozen
class LocalFolder(_Named):
    """A folder (or file) of Nix expressions on this machine.

    :param path: absolute; only its last step is shown.
    """

    _kind = _noun = "folder"

    path: str

    @property
    def _shown(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2] or "/"


@attrs.frozen
class Flake(_Named):
    """A flake whose ``legacyPackages`` or ``packages`` are the package set.

    :param reference: as ``nix flake metadata`` takes it.
    """

    _kind = _noun = "flake"

    reference: str

    @property
    def _shown(self) -> str:
        return hide_place(self, without_credentials(self.reference))


Source = Channel | GitRepository | LocalFolder | Flake


# --- pins: a revision, and how to get its contents ------------------------------------------


@attrs.frozen
class Commit:
    """A commit of a git repository.

    :param url: of the repository, with the credentials in it.
    :param revision: its full id.
    :param origin: URL of the repository that this one is a clone of, if it is known.
    """

    url: str
    revision: str
    origin: str = ""

    def identity(self) -> list[str]:
        """The facts that determine the contents, with the repository: another repository's
        commits must not be served under this one."""
        return ["git", without_credentials(self.url), self.revision]


@attrs.frozen
class FolderContents:
    """The contents of a path on this machine, which may be edited.

    :param path: absolute.
    :param revision: a fingerprint of what is there.
    """

    path: str
    revision: str

    def identity(self) -> list[str]:
        """The facts that determine the contents: the path too, since expressions may use files
        beside it."""
        return ["path", self.path, self.revision]


@attrs.frozen
class LockedFlake:
    """A flake at a revision, with the revisions of all its inputs.

    :param reference: names this revision and no other.
    :param revision: of the repository that it is in, or the hash of its contents.
    :param date: when that revision was committed, in seconds since 1970; none if it is no commit.
    """

    reference: str
    revision: str
    date: int | None = None

    def identity(self) -> list[str]:
        """The facts that determine the contents."""
        return ["flake", without_credentials(self.reference), self.revision]


Pin = Commit | FolderContents | LockedFlake


@attrs.frozen
class Configuration:
    """nixpkgs' own configuration, passed to the package set besides the system.

    :param config: canonical JSON of what nixpkgs takes as ``config``.
    :param overlays: absolute path of a Nix file with a list of overlays, or a folder of one.
    :param revision: a fingerprint of the overlays.
    """

    config: str = "{}"
    overlays: str | None = None
    revision: str = ""


@attrs.frozen
class PinnedSource:
    """A source at one immutable revision.

    :param configuration: what the set is told; none for a set that is used as it comes.
    :param stale: the source could not be asked: this is the last that is known of it.
    """

    source: Source
    pin: Pin
    configuration: Configuration | None = None
    stale: bool = attrs.field(default=False, eq=False)

    @property
    def revision(self) -> str:
        """The commit's full hexadecimal id, or a fingerprint, as it is shown."""
        return self.pin.revision


def is_commit(text: str) -> bool:
    """Whether a text has the form of a commit's full id."""
    return _COMMIT.fullmatch(text) is not None


def without_credentials(url: str) -> str:
    """The URL as it may be shown.

    What stands before an ``@`` of its host is left out, and of its query all but what is known to
    be no secret: tokens are put there too.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _without_secrets(url)
    host, slash, path = rest.partition("/")
    if not _HOST.fullmatch(host.rpartition("@")[2]):
        # That is no host, but the begin of a password with a slash in it, which is no URL: it is
        # shown to say so.
        host, slash, path = rest.rpartition("@")[2].partition("/")
    # A query may follow the host, with slashes of its own in it.
    place = _without_secrets(host.rpartition("@")[2] + slash + path)
    return f"{scheme}://{place}"


def _without_secrets(path: str) -> str:
    """A path without the parts of its query that may be secret."""
    place, _, query = path.partition("?")
    shown = "&".join(part for part in query.split("&") if part.partition("=")[0] in _NO_SECRET)
    return f"{place}{'?' if shown else ''}{shown}"


def hide_credentials(text: str) -> str:
    """A text in which every URL is as it may be shown."""
    return _URL.sub(lambda match: without_credentials(match[0]), text)


def hide_place(source: Source, text: str) -> str:
    """A text that names a source's place on this machine, if it has one, by its last step only:
    where it lies is nobody else's business."""
    path = place_of(source).rstrip("/")
    if not path or path not in text:
        return text
    return re.sub(re.escape(path) + r"(?![^/:'\"?#\s])", path.rpartition("/")[2], text)


def place_of(source: Source) -> str:
    """The path of a source that lies on this machine; nothing if it does not."""
    match source:
        case LocalFolder(path=path):
            return path
        case GitRepository(url=url) | Channel(url=url) | Flake(reference=url):
            found = _LOCAL.match(url)
            return found[1] if found else ""


def header_value(text: str) -> str:
    """A text as an HTTP header holds it: what is not printable ASCII is percent-encoded."""
    return _HEADER_UNSAFE.sub(_percent, text)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def canonical_json(value: Any) -> str:
    """A value's canonical JSON: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def canonical_sha256(value: Any) -> str:
    """The sha256 of a value's canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
