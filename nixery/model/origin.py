"""The address at which everybody finds a package source, as images name it.

It stands in images, which are copied to places that their makers know nothing of. So it holds no
credentials, and no path of a machine; and it is the same for every way of fetching one repository
that is known to be one.
"""

import re

from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Commit,
    Flake,
    PinnedSource,
    header_value,
    without_credentials,
)

# What serves at https://HOST/PATH what it serves by SSH as HOST:PATH.
_FORGES = frozenset({"bitbucket.org", "codeberg.org", "git.sr.ht", "github.com", "gitlab.com"})
# How flake references call some of them.
_FLAKES = {"github": "github.com", "gitlab": "gitlab.com", "sourcehut": "git.sr.ht"}
_FETCHERS = re.compile(r"(?:git|hg|tarball|file)\+")
_SCP = re.compile(r"(?:[^@/:]+@)?([^/:]+):(.*)", re.DOTALL)
_PUBLIC = {"https": ":443", "http": ":80", "git": ":9418"}
"""Schemes that everybody may use, with the port that needs no mention."""


def address_of(pinned: PinnedSource) -> str:
    """The public address of the repository of a pinned source.

    A mirror of nixpkgs holds what nixpkgs does; a work tree is a copy of what it was cloned from.

    :return: nothing (the empty text) if there is no such place, or none that may be told.
    """
    if isinstance(pinned.source, Channel):
        return NIXPKGS_URL
    if isinstance(pinned.source, Flake):
        return _flake_address(getattr(pinned.pin, "reference", ""))
    return (
        public_address(pinned.pin.origin or pinned.pin.url)
        if isinstance(pinned.pin, Commit)
        else ""
    )


def public_address(url: str) -> str:
    """A git URL as everybody may be told it.

    What is read by SSH, or lies on a machine, is not told, but for the repositories of forges that
    have them at an address of their pages, too.

    :return: without credentials, query and ``.git``; nothing (the empty text) if it is not told.
    """
    scheme, separator, rest = without_credentials(url).partition("://")
    if not separator:
        match = _SCP.fullmatch(url)
        scheme, rest = "ssh", f"{match[1]}/{match[2]}" if match else ""
    host, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    host, path = host.lower(), path.strip("/").removesuffix(".git").rstrip("/")
    if scheme == "ssh":
        host = host.rpartition("@")[2].removesuffix(":22")
        scheme = "https" if host in _FORGES else scheme
    if scheme not in _PUBLIC or not host:
        return ""
    place = f"{host.removesuffix(_PUBLIC[scheme])}/{path}".rstrip("/")
    return header_value(f"{scheme}://{place}").replace(" ", "%20")


def _flake_address(reference: str) -> str:
    kind, _, rest = reference.partition(":")
    if kind not in _FLAKES:
        return public_address(_FETCHERS.sub("", reference, count=1))
    path, _, query = rest.partition("?")
    owner, _, repository = path.partition("/")
    host = dict(part.split("=", 1) for part in query.split("&") if "=" in part).get("host")
    place = f"{owner.replace('%2F', '/')}/{repository.partition('/')[0]}"
    return public_address(f"https://{host or _FLAKES[kind]}/{place}")
