"""Users' passwords: htpasswd files with bcrypt entries."""

import re
from collections.abc import Mapping
from functools import cached_property

import attrs

from nixery.access.watched import FileInvalid, read_lines

LEAST_COST = 10
"""The least cost that a password should have: the default of `htpasswd -B` is 5."""
_NAMED = 5  # users, in a remark
# `htpasswd -B` writes $2y$; a cost of 15 takes seconds.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")


@attrs.frozen(slots=False)
class Passwords:
    """The users' bcrypt entries.

    :param hidden: by user.
    """

    hidden: Mapping[str, bytes] = attrs.field(repr=lambda hidden: f"<of {len(hidden)} users>")

    @cached_property
    def cost(self) -> int:
        """The greatest cost."""
        return max(map(cost_of, self.hidden.values()), default=LEAST_COST)

    def remarks(self) -> list[str]:
        """Warnings to operators: a phrase each."""
        cheap = sorted(u for u, each in self.hidden.items() if cost_of(each) < LEAST_COST)
        if not cheap:
            return []
        more = f" and {len(cheap) - _NAMED} more" if len(cheap) > _NAMED else ""
        users = ", ".join(map(repr, cheap[:_NAMED])) + more
        weak = f"bcrypt cost below {LEAST_COST}, which is fast to guess"
        return [f"{weak}: {users}; set these passwords again with htpasswd -B -C 12"]


def cost_of(hidden: bytes) -> int:
    """The cost of a bcrypt entry: the time of a check is two to the power of it."""
    return int(hidden[4:6])


def unknown(cost: int) -> bytes:
    """A bcrypt entry that no password matches, for unknown users."""
    return b"$2b$%02d$" % cost + b"." * 53


def read_passwords(path: str) -> Passwords:
    """Read an htpasswd file. Blocks.

    :raises FileInvalid: naming the lines that are not bcrypt entries.
    :raises OSError: if it can't be read.
    """
    found: dict[str, bytes] = {}
    faults: list[str] = []
    for number, line in read_lines(path):
        user, colon, hidden = line.partition(":")
        if not colon or not user:
            faults.append(f"line {number} is not user:password")
        elif not _BCRYPT.fullmatch(hidden):
            faults.append(
                f"line {number}: the password of {user!r} is not hashed with bcrypt (htpasswd -B)"
            )
        elif user in found:
            faults.append(f"line {number} names {user!r} again")
        found[user] = hidden.encode("utf-8")
    if faults:
        raise FileInvalid("; ".join(faults))
    return Passwords(found)
