"""Licences as SPDX license expressions."""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from nixery.model.digest import Digest

if TYPE_CHECKING:
    from license_expression import Licensing

_LONGEST = 500
"""Characters of what may be an expression; a longer one is taken for a text of its own."""
_OWN = "LicenseRef-"
_NO_ID = re.compile(r"[^A-Za-z0-9.-]+")


@attrs.frozen
class Licensed:
    """The licences of a package.

    :param expression: an SPDX license expression, that all of them apply; empty if none is known.
    :param own: identifier in the expression → the licence's name, for those that SPDX does not
        know.
    """

    expression: str = ""
    own: Mapping[str, str] = attrs.Factory(dict)


def licensed(licences: Iterable[str]) -> Licensed:
    """The licences of a package.

    :param licences: SPDX identifiers and expressions, or other names.
    """
    parts, own = [], {}
    for name in licences:
        part = spdx_expression(name)
        if part is None:
            part = _own_id(name)
            own[part] = name
        parts.append(part)
    parts = list(dict.fromkeys(parts))
    if len(parts) > 1:
        parts = [f"({part})" if " OR " in part else part for part in parts]
    return Licensed(" AND ".join(parts), own)


@functools.lru_cache(1024)
def spdx_expression(text: str) -> str | None:
    """A text as an SPDX license expression, if it is one of licences that SPDX knows."""
    # The daemon's start need not wait for the library.
    from license_expression import ExpressionError

    if len(text) > _LONGEST:
        return None
    try:
        parsed = _licensing().parse(text, validate=True, strict=True)
    except (ExpressionError, RecursionError):
        return None
    if parsed is None or any(_OWN in key for key in _licensing().license_keys(parsed)):
        return None
    return str(parsed.render())


def _own_id(name: str) -> str:
    """The identifier of a licence that SPDX does not know, another one for each name."""
    short = _NO_ID.sub("-", name).strip("-")[:100]
    if short == name:
        return _OWN + name
    digest = Digest.of(name.encode("utf-8", "surrogatepass")).hex[:8]
    return _OWN + "-".join(filter(None, (short, digest)))


@functools.cache
def _licensing() -> "Licensing":
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()
