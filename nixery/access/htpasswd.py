"""Passwords that an operator gives to users: htpasswd files with bcrypt entries."""

import re
from collections.abc import Mapping

import attrs

from nixery.access.lines import read_lines
from nixery.access.watched import FileInvalid

# `htpasswd -B` writes $2y$; a cost of 15 takes seconds.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}")


@attrs.frozen
class Passwords:
    """The users' passwords, as bcrypt keeps them.

    :param hidden: what stands for each user's password.
    """

    hidden: Mapping[str, bytes] = attrs.field(repr=lambda hidden: f"<of {len(hidden)} users>")

    @property
    def cost(self) -> int:
        """The cost of the dearest of them."""
        return max((int(each[4:6]) for each in self.hidden.values()), default=10)


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
