"""A name of an image as people type it, while they do: pure."""

import re
from collections.abc import Sequence

import attrs

from nixery.model.image import META, parse_image
from nixery.model.request_errors import NameInvalid, TagInvalid
from nixery.model.tags import LATEST

META_PACKAGES = {
    "shell": "bash, coreutils, moreutils and nano",
    "ci": "shell, and what CI jobs need: git, curl, tar and others",
    "user": "runs as an ordinary user",
    "amd64": "for 64-bit x86 alone",
    "arm64": "for 64-bit ARM alone",
}
"""Each meta-package, and what it brings."""

_BETWEEN = re.compile(r"[\s/]+")
_COMMAND = re.compile(r"\s*(?:(?:docker|podman|skopeo|crane|nerdctl)\s+pull\s+|FROM\s+)?")


@attrs.frozen
class TypedName:
    """What was typed so far.

    :param words: names of packages and meta-packages; these come first, and nothing comes twice.
    :param tag: what follows a colon.
    :param last: the word that is being typed: empty behind a space or slash.
    :param names_tag: whether the tag is what is being typed.
    """

    words: tuple[str, ...] = ()
    tag: str = LATEST
    last: str = ""
    names_tag: bool = False

    @classmethod
    def parse(cls, typed: str, host: str = "") -> "TypedName":
        """Read a name whose packages have spaces or slashes between them, in any case.

        :param host: the registry's: it may stand before the name, as in a command that is pasted.
        """
        text = typed[_COMMAND.match(typed).end() :]  # type: ignore[union-attr]
        if host:
            text = text.removeprefix(f"{host}/")
        path, colon, tag = text.partition(":")
        words = list(dict.fromkeys(word for word in _BETWEEN.split(path.lower()) if word))
        last = "" if colon else _BETWEEN.split(path.lower())[-1]
        return cls(_in_order(words), tag.strip() or LATEST, last, bool(colon))

    @property
    def path(self) -> str:
        """The name without its tag; empty if nothing is named."""
        return "/".join(self.words)

    @property
    def name(self) -> str:
        """The name, with its tag."""
        return f"{self.path}:{self.tag}"

    @property
    def packages(self) -> tuple[str, ...]:
        """The words that are packages."""
        return tuple(word for word in self.words if word not in META)

    @property
    def fault(self) -> str:
        """Why no image can have this name; empty if one can, or nothing is named."""
        try:
            if self.words:
                parse_image(self.path, self.tag)
        except (NameInvalid, TagInvalid) as error:
            return str(error)
        return ""

    def completed(self, word: str) -> str:
        """The text to type on from, with a word in place of what was being typed."""
        if self.names_tag:
            return f"{self.path}:{word}"
        return f"{self.replaced(self.last, word)}/"

    def replaced(self, old: str, new: str) -> str:
        """The name with another word in place of one; at the end if there is no such word."""
        words = [*(word for word in self.words if word not in (old, new)), new]
        path = "/".join(_in_order(words))
        return f"{path}:{self.tag}" if self.tag != LATEST else path


def _in_order(words: Sequence[str]) -> tuple[str, ...]:
    """Words, meta-packages first."""
    meta = (word for word in META if word in words)
    return (*meta, *(word for word in words if word not in META))
