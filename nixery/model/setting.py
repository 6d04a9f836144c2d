"""How a setting is declared, as a field of a settings class, and how its text is read.

The declaration is all there is to a setting: the option, ``--help``, the checks and the tables of
docs/settings.md are made from it. See :mod:`nixery.settings` for the classes together.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nixery.model.source import without_credentials

_PARAM = re.compile(r":param (\w+): (.*?)(?=:param|\Z)", re.DOTALL)
_KEY = "PRIVATE KEY-----"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@attrs.frozen
class Setting:
    """An environment variable, and the command line option with the same meaning.

    :param default: the text that counts where there is none; empty for none.
    """

    variable: str
    read: Callable[[str], Any]
    help: str
    default: str
    unset: Any
    alias: str

    @property
    def option(self) -> str:
        """The name of the option, without dashes before it."""
        return self.variable.removeprefix("NIXERY_").lower().replace("_", "-")

    def value(self, environ: Mapping[str, str], faults: list[str]) -> Any:
        """Read the value from the environment, or from the default.

        :param faults: a sentence is added if the text can't be used.
        """
        name = self.variable
        if self.alias and not environ.get(name) and environ.get(self.alias):
            name = self.alias
        text = environ.get(name) or self.default
        try:
            return self.read(text) if text else self.unset
        except ValueError as error:
            # Where the path of a key is meant, the key itself may have been put.
            shown = "a private key" if _KEY in text else repr(without_credentials(text))
            faults.append(f"{name} is {shown}; it must be {error}")
            return self.unset


def setting(
    declaration: str, read: Callable[[str], Any] = str, *, unset: Any = None, alias: str = ""
) -> Any:
    """A field of a settings class, whose ``:param:`` in the class's docstring is the help text.

    :param declaration: the variable, and ``=`` and its default if it has one.
    :param read: text to value; a ``ValueError`` says what is expected.
    :param unset: the value where there is no text.
    :param alias: another name for the variable.
    """
    variable, _, default = declaration.partition("=")
    declared = Setting(variable, read, "", default, unset, alias)
    value = read(default) if default else unset
    return attrs.field(default=value, metadata={Setting: declared})


def settings_of(group: type) -> dict[str, Setting]:
    """The settings that a settings class declares, by the names of its fields."""
    helps = {name: " ".join(text.split()) for name, text in _PARAM.findall(group.__doc__ or "")}
    return {
        field.name: attrs.evolve(field.metadata[Setting], help=helps.get(field.name, ""))
        for field in attrs.fields(group)
        if Setting in field.metadata
    }


def number(least: float, most: float, kind: type = int, scale: int = 1) -> Callable[[str], Any]:
    """A number in a range, written in digits.

    :param scale: the value is so many times what is written.
    """
    digits = re.compile(r"[0-9]{1,9}" if kind is int else r"[0-9]{1,9}([.][0-9]{1,9})?")

    def read(text: str) -> Any:
        # Digits alone: Python would take 8_080, and digits of every script, for numbers too.
        if not digits.fullmatch(text) or not least <= kind(text) <= most:
            word = "whole number" if kind is int else "number"
            raise ValueError(f"a {word} from {least} to {most}")
        return kind(text) * scale

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


def switch(text: str) -> bool:
    """``on`` or ``off``."""
    return one_of("on", "off")(text) == "on"


def matching(pattern: str, expected: str) -> Callable[[str], str]:
    """A text of some form.

    :param pattern: a regular expression.
    :param expected: the form, in words.
    """
    compiled = re.compile(pattern)

    def read(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(expected)
        return text

    return read


absolute = matching(r"(?s:/.*)", "an absolute path")
header_url = matching(r"https?://[!#-\[\]-~]+", "a URL that begins with https or http")
"""A URL that fits into a quoted string in a header."""
header_word = matching(r"[!#-\[\]-~]+", "ASCII without spaces, quotes and backslashes")
"""A word that does."""
