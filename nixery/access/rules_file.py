"""The file of rules: who may pull what, in TOML."""

import tomllib
from typing import Any

from nixery.access.entries import read_text
from nixery.access.watched import FileInvalid
from nixery.model.rules import NOTHING_SAID, Patterns, Rules

_KEYS = {"allow": "allow", "deny": "deny", "allow-tags": "allow_tags", "deny-tags": "deny_tags"}


def read_rules(path: str) -> Rules:
    """Read a file of rules. Blocks.

    :raises FileInvalid: naming everything in it that is no rule: one that is not understood might
        be one that denies.
    :raises OSError: if it can't be read.
    """
    try:
        document = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileInvalid(f"is not TOML: {error}") from None
    faults: list[str] = []
    users = document.pop("users", {})
    if not isinstance(users, dict):
        faults.append("'users' is not a table of tables")
        users = {}
    tables = {name: _patterns(name, document.pop(name, None), faults) for name in _OTHERS}
    named = {name: _patterns(f"users.{name}", each, faults) for name, each in users.items()}
    faults += [f"{name!r} is neither 'everyone', 'anonymous' nor 'users'" for name in document]
    if faults:
        raise FileInvalid("; ".join(faults))
    patterns = {name: each for name, each in named.items() if each is not None}
    return Rules(tables["everyone"] or NOTHING_SAID, tables["anonymous"], patterns)


_OTHERS = ("everyone", "anonymous")


def _patterns(name: str, table: Any, faults: list[str]) -> Patterns | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        faults.append(f"{name!r} is not a table")
        return None
    for key, value in table.items():
        if key not in _KEYS:
            faults.append(f"{name!r} has {key!r}, which is none of {', '.join(_KEYS)}")
        elif not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            faults.append(f"{key!r} of {name!r} is not a list of patterns")
            return None
    return Patterns(**{_KEYS[key]: tuple(table[key]) for key in table if key in _KEYS})
