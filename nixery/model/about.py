"""The description of a package for people: its attribute ``meta``."""

import re
from collections.abc import Iterable
from typing import Any

import attrs

from nixery.model.text import plain

_LONGEST = 4000  # characters of an expression
_WORD = r"[A-Za-z0-9][A-Za-z0-9.:-]*\+?"
_EXPRESSION = re.compile(rf"{_WORD}(?: (?:AND|OR|WITH) {_WORD})*")
_NO_ID = re.compile(r"[^A-Za-z0-9.-]+")


@attrs.frozen
class License:
    """A licence of a package.

    :param spdx: its SPDX identifier; empty if the set has none.
    :param name: its name in the set.
    """

    spdx: str
    name: str

    @property
    def expression(self) -> str:
        """The licence as part of an SPDX expression: a ``LicenseRef-`` where the set names no
        SPDX identifier."""
        if _EXPRESSION.fullmatch(self.spdx):
            return f"({self.spdx})" if " OR " in self.spdx else self.spdx
        own = _NO_ID.sub("-", self.name).strip("-")[:100]
        return f"LicenseRef-{own}" if own else ""


@attrs.frozen
class About:
    """The description of a package; each text is empty if the set has none.

    :param cpe: the name that databases of vulnerabilities have for it.
    :param purls: package URLs of what it was made of.
    """

    version: str = ""
    description: str = ""
    homepage: str = ""
    licenses: tuple[License, ...] = ()
    cpe: str = ""
    purls: tuple[str, ...] = ()

    @classmethod
    def parse(cls, document: Any) -> "About":
        """Read what ``realise.nix`` says of a package."""
        licenses = tuple(License(each["spdx"], each["name"]) for each in document["licenses"])
        names = ("version", "description", "homepage", "cpe")
        texts = {name: _line(document[name]) for name in names}
        return cls(**texts, licenses=licenses, purls=tuple(map(_line, document["purls"])))


def _line(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(c for c in " ".join(plain(text).split()) if c.isprintable())


def licenses_together(packages: Iterable[About]) -> str:
    """The SPDX expression for packages together: all of their licences apply.

    :return: empty if no licence is known, or the expression is too long to be of use.
    """
    each = {license.expression for about in packages for license in about.licenses}
    together = " AND ".join(sorted(each - {""}))
    # One alone needs no brackets.
    if len(each - {""}) == 1:
        together = together.removeprefix("(").removesuffix(")")
    return together if len(together) <= _LONGEST else ""
