"""The self-description of an image: its name, source, revision and date, the same wherever it is
built.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from nixery.model.about import licenses_together
from nixery.model.closure import Root
from nixery.model.image import Image
from nixery.model.origin import address_of
from nixery.model.setting import matching, one_of, setting
from nixery.model.source import PinnedSource

LABELS = "org.opencontainers.image."
"""What the names begin with that the OCI image specification has for labels and annotations."""

AUTO, OFF = "auto", "off"

EPOCH, COMMIT = "epoch", "commit"

_FIRST, _LAST = 1, 253402300799
"""Seconds since 1970 that dates may be: tools take 0 for "unknown", and a year has four digits."""
_SHOWN = 12  # digits of a commit
_ESCAPED = re.compile(r'([\\"$`])')
_NO_ID = re.compile(r"[^0-9a-z._-]+")


_image_source = matching(
    rf"{AUTO}|{OFF}|https?://[!#-?A-\[\]-~]+",
    f"{AUTO}, {OFF}, or a URL that begins with https or http, without '@'",
)


@attrs.frozen
class Naming:
    """An operator's choice of what images say about themselves.

    :param source: What images name as their source, in labels and /etc/os-release: a URL; auto, for
        that of the package set where everybody may be told it; or off.
    :param created: Date of images: epoch, which is 1970; or commit, for that of the package set's
        commit where it has one.
    """

    source: str = setting(f"NIXERY_IMAGE_SOURCE={AUTO}", _image_source)
    created: str = setting(f"NIXERY_CREATED={EPOCH}", one_of(EPOCH, COMMIT))

    def address(self, pinned: PinnedSource) -> str:
        """The URL that images of a pinned source name; nothing (the empty text) if they don't."""
        if self.source == AUTO:
            return address_of(pinned)
        return "" if self.source == OFF else self.source


@attrs.frozen
class Identity:
    """The facts by which an image is told from others.

    :param name: the shortest name that asks for it.
    :param revision: of the package source.
    :param address: the URL of the package source; nothing if it is not told.
    :param created: the date that it has, in seconds since 1970; none if that is not told.
    """

    name: str
    revision: str
    address: str = ""
    created: int | None = None

    @property
    def date(self) -> str:
        """The date as configs have it (RFC 3339)."""
        return EPOCH_DATE if self.created is None else rfc3339(self.created)

    @property
    def os_release(self) -> str:
        """The file ``/etc/os-release``.

        https://www.freedesktop.org/software/systemd/man/latest/os-release.html
        """
        fields = {
            "NAME": "Nixery",
            "ID": "nixery",
            "VERSION": _short(self.revision),
            "VERSION_ID": _NO_ID.sub("-", self.revision.lower()).strip("-"),
            "PRETTY_NAME": f"Nixery {self.name} ({_short(self.revision)})",
            "VARIANT": self.name,
            "BUILD_ID": self.revision,
            "HOME_URL": self.address,
        }
        return "".join(f"{name}={_quoted(text)}\n" for name, text in fields.items() if text)


def labels_of(identity: Identity, image: Image, roots: Sequence[Root]) -> dict[str, str]:
    """The labels that the OCI image specification has names for, as far as they are known.

    What a package is, an image says that has only this one.

    :param roots: the packages of the image.
    """
    alone = next((r.about for r in roots if [r.package] == image.own and not image.shell), None)
    known = {
        "title": identity.name,
        "source": identity.address,
        "revision": identity.revision,
        "licenses": licenses_together(root.about for root in roots),
        "version": alone.version if alone else "",
        "description": alone.description if alone else "",
        "url": alone.homepage if alone else "",
    }
    return {f"{LABELS}{name}": text for name, text in known.items() if text}


def rfc3339(seconds: int) -> str:
    """A date, in seconds since 1970, as text; one that can't be written is the nearest that can."""
    moment = datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


EPOCH_DATE = rfc3339(_FIRST)
"""The date of what has none, as of the files in layers."""


def _short(revision: str) -> str:
    """A revision as people are shown it."""
    is_hexadecimal = not revision.strip("0123456789abcdef")
    return revision[:_SHOWN] if is_hexadecimal else revision


def _quoted(text: str) -> str:
    """A value of ``os-release``: a shell reads it as the same text, whatever that is."""
    printable = "".join(letter for letter in text if letter.isprintable())
    if printable.isascii() and printable.isalnum():
        return printable
    return '"' + _ESCAPED.sub(r"\\\1", printable) + '"'
