"""What a confined evaluation was refused, in words that a package set's author understands: pure.

Nix names a file by where it lies on this machine, which is nobody else's business.
"""

import os
import re
from itertools import islice

from nixery.model.source import Folder, Source

CONFINED = "evaluation is confined"
# What is quoted may hold quotes, but no other refusal: or else a text with many beginnings would
# be looked through from each of them.
_QUOTED = r"(?:(?!access to )[^\n])*?"
_PATH = re.compile(
    rf"access to (?:absolute path|canonical path|path) '(?P<path>{_QUOTED})' "
    r"is forbidden in (?:restricted|pure)(?: eval| evaluation)? mode"
    r"(?: \(use ['\"]--impure['\"] to override\))?"
)
_URI = re.compile(
    rf"access to URI (?P<quote>['\"])(?P<uri>{_QUOTED})(?P=quote) is forbidden in restricted mode"
)
_MOST_PATHS = 20
"""Refused paths of one text that are named from the set; Nix names one, and what calls it."""


def in_plain_words(source: Source, text: str) -> str:
    """A text of Nix's in which refusals are said in other words.

    :param source: the package set's; a path that has to do with its folder is named from there.
    """
    if "is forbidden in" not in text:
        return text
    for path in {match["path"] for match in islice(_PATH.finditer(text), _MOST_PATHS)}:
        # In the trace too.
        text = text.replace(f"'{path}", f"'{_seen(source, path)}")
    text = _PATH.sub(
        lambda match: f"{CONFINED}: the package set may not read '{match['path']}'", text
    )
    return _URI.sub(
        lambda match: f"{CONFINED}: the package set may not fetch '{match['uri']}'", text
    )


def _seen(source: Source, path: str) -> str:
    """A path as the set's author knows it: from the set, if they are near to each other."""
    if not isinstance(source, Folder) or not path.startswith("/"):  # a set may say anything
        return path
    near = os.path.commonpath([source.path, path]) != "/"
    return os.path.relpath(path, source.path) if near else path
