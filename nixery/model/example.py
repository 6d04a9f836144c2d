"""An image to name as an example: pure."""

from collections.abc import Collection

from nixery.model.image import SHELL

_TOOLS = ("git", "htop", "jq", "curl", "hello", "python3", "vim", "busybox")
"""Packages that most sets have and most people know, the best examples first."""
_MOST = 2

USUAL = "shell/git/htop"
"""An example where it is not known what the set has."""
WANTED = (*SHELL, *_TOOLS)
"""The packages that an example may be made of."""


def example(there: Collection[str]) -> str | None:
    """The name of an image of packages that a set has, if it has any that serve.

    :param there: those of :data:`WANTED` that it has.
    """
    tools = [name for name in _TOOLS if name in there][:_MOST]
    shell = ["shell"] if all(name in there for name in SHELL) else []
    return "/".join([*shell, *tools]) or None
