"""The base of the errors on an image's way from its name to a client: exceptions that carry facts.

``str(error)`` is a complete sentence; its status and code in the registry protocol are decided in
:mod:`nixery.http.answers` alone. ``tests/model/messages.txt`` lists all messages on one page.
"""

import copy
from typing import ClassVar, Self

from nixery.model.paths import hide_paths


class NixeryError(Exception):
    """A request that Nixery can't meet, and why.

    ``str(error)`` may name files of this machine: it is for the operator. Clients get the message
    of :meth:`public`.
    """

    _message: ClassVar[str] = ""
    """The message, as a format string in which ``0`` is the error."""

    _of_machine: ClassVar[tuple[str, ...]] = ()
    """Fields whose text comes from Nix, git or the operating system."""

    def __str__(self) -> str:
        return self._message.format(self)

    def public(self) -> Self:
        """A copy without paths of this machine."""
        shown = copy.copy(self)
        for name in self._of_machine:
            setattr(shown, name, hide_paths(getattr(self, name)))
        return shown

    @property
    def cause(self) -> str:
        """The message without the end of a log that it quotes."""
        return str(self)
