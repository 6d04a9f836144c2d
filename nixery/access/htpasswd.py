"""Passwords that an operator gives to users: htpasswd files with bcrypt entries."""

import re
from collections.abc import Mapping
from functools import cached_property

import attrs

from nixery.access.entries import read_lines
from nixery.access.watched import FileInvalid

LEAST_COST = 10
"""What a password's cost should be: `htpasswd -B` takes 5 unless it is told."""
_NAMED = 5  # users, in a remark
# `htpasswd -B` writes $2y$; a cost of 15 takes seconds.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")


@attrs.frozen(slots=False)
class Passwords:
    """The users' passwords, as bcrypt keeps them.

    :param hidden: what stands for each user's password.
    """

    hidden: Mapping[str, bytes] = attrs.field(repr=lambda hidden: f"<of {len(hidden)} users>")

    @cached_property
    def cost(self) -> int:
        """The greatest cost of them."""
        return max(map(cost_of, self.hidden.values()), default=LEAST_COST)

    def remarks(self) -> list[str]:
        """What an operator should know of them: a phrase for each fault that is no obstacle."""
        cheap = sorted(u for u, each in self.hidden.items() if cost_of(each) < LEAST_COST)
        if not cheap:
            return []
        more = f" and {len(cheap) - _NAMED} more" if len(cheap) > _NAMED else ""
        users = ", ".join(map(repr, cheap[:_NAMED])) + more
        weak = f"bcrypt cost below {LEAST_COST}, which is fast to guess"
        return [f"{weak}: {users}; write these passwords anew with htpasswd -B -C 12"]


def cost_of(hidden: bytes) -> int:
    """The cost of a bcrypt entry: the time that it takes is two to the power of it."""
    return int(hidden[4:6])


def unknown(cost: int) -> bytes:
    """A bcrypt entry that is no password's, for those who are no users."""
    return b"$2b$%02d$" % cost + b"." * 53


def read_passwords(path: str) -> Passwords:
    """Read an htpasswd file. Blocks.

    :raises FileInvalid: naming the lines that are no bcrypt entry.
    :raises OSError: if it can't be read.
    """
    found: dict[str, bytes] = {}
    faults: list[str] = []
    for number, line in read_lines(path):
        user, colon, hidden = line.partition(":")
        if not colon or not user:
            faults.append(f"line {number} is not user:password")
        elif not _BCRYPT.fullmatch(hidden):
            faults.append(f"line {number}: the password of {user!r} is not by bcrypt (htpasswd -B)")
        elif user in found:
            faults.append(f"line {number} names {user!r} again")
        found[user] = hidden.encode("utf-8")
    if faults:
        raise FileInvalid("; ".join(faults))
    return Passwords(found)
