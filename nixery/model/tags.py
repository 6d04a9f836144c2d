"""The tags that the registry serves, and their meaning: pure."""

import re
from calendar import timegm
from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase

import attrs

LATEST = "latest"

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY = 86400


@attrs.frozen
class TagPolicy:
    """The tags that are served besides ``latest``.

    :param patterns: as shells have them: ``*``, ``?`` and ``[…]``.
    """

    patterns: Sequence[str]

    def allows(self, tag: str) -> bool:
        """Whether a tag is served."""
        return tag == LATEST or any(fnmatchcase(tag, pattern) for pattern in self.patterns)

    def offered(self, names: Sequence[str]) -> list[str]:
        """Those of a source's names that are served as tags, with ``latest``, in order."""
        served = {name for name in names if TAG.fullmatch(name) and self.allows(name)}
        return sorted({LATEST, *served})


def day_of(tag: str) -> tuple[int, int] | None:
    """The day that a tag of the form ``2026-06-01`` names.

    :return: where it begins and ends in UTC, in seconds since 1970; nothing for any other tag.
    """
    if not _DATE.fullmatch(tag):
        return None
    try:
        day = date.fromisoformat(tag)
    except ValueError:
        return None
    start = timegm(day.timetuple())
    # git reads smaller numbers as something else than seconds.
    return (start, start + _DAY) if day.year >= 1980 else None
