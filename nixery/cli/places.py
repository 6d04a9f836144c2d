"""Where a command finds its daemon: by the state folder of this machine, or by a URL."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from nixery.cli.exits import NO_DAEMON, USAGE, CommandFailed
from nixery.state_folder import API_ADDRESS, API_TOKEN, state_folder
from nixery.unknown import TOKEN, URL

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_FILE = "NIXERY_API_TOKEN_FILE"
"""A setting of the daemon, which means the same here."""
_SERVICE = "/var/lib/nixery"
"""The state folder of the service of systemd/."""


class Place:
    """The daemon that a command asks, and the state folder where it may look for itself.

    :ivar state: the state folder of this machine; none for a daemon that was named by its URL.
    """

    def __init__(self, state: str | None, url: str | None, token_file: str | None) -> None:
        """
        :param state: the folder that was named, if one was.
        :param url: the daemon's, if it was named.
        :param token_file: holds the token, where the state folder's own is not meant.
        """
        self._url, self._token_file = url, token_file
        self.state = None if url and not state else state or _usual_state()

    def address(self) -> str | None:
        """The daemon's URL, without a slash at its end; none if none runs on this machine."""
        if self._url:
            return self._url.rstrip("/")
        text = _read(os.path.join(self.state or "", API_ADDRESS))
        return text.rstrip("/") if text else None

    def token(self) -> str | None:
        """The token to show to the daemon, if there is one.

        :raises CommandFailed: if the file that was named can't be read.
        """
        if self._token_file:
            try:
                with open(self._token_file, encoding="ascii") as file:
                    return file.read().strip()
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it holds other than ASCII"
                raise CommandFailed(
                    f"the token can't be read from {self._token_file}: {reason}", USAGE
                ) from None
        if told := os.environ.get(TOKEN):
            return told.strip()
        return None if self._url else _read(os.path.join(self.state or "", API_TOKEN))

    def absent(self) -> CommandFailed:
        """The end of a command that needs a daemon where none is found."""
        return CommandFailed(
            f"no daemon runs with the state folder {self.state}; start it, or name it by --state, "
            "or by --url",
            NO_DAEMON,
        )


def _usual_state() -> str:
    """The state folder of this user, or else of the machine's service."""
    own = state_folder(os.environ)
    return own if os.path.isdir(own) or not os.path.isdir(_SERVICE) else _SERVICE


def _read(path: str) -> str | None:
    """The text of a small file; none if there is no such file, or it may not be read."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read(4096).strip() or None
    except (OSError, ValueError):
        return None


_OPTIONS = (
    click.option("--url", metavar="URL", envvar=URL, help=f"The daemon to ask. [env: {URL}]"),
    click.option(
        "--token-file",
        metavar="FILE",
        envvar=TOKEN_FILE,
        help=f"File with the daemon's API token. [env: {TOKEN_FILE}, or {TOKEN} for itself]",
    ),
    click.option(
        "--state",
        metavar="FOLDER",
        help="State folder of a daemon on this machine. [env: STATE_DIRECTORY]",
    ),
)


def with_place(command: F) -> F:
    """Give a command the options that say which daemon is meant, as its first argument: a
    :class:`Place`."""

    def run(
        *arguments: Any, url: str | None, token_file: str | None, state: str | None, **named: Any
    ) -> Any:
        return command(Place(state, url, token_file), *arguments, **named)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    if hasattr(command, "__click_params__"):
        run.__click_params__ = command.__click_params__  # type: ignore[attr-defined]
    for option in reversed(_OPTIONS):
        option(run)
    return run  # type: ignore[return-value]


as_json = click.option("--json", "in_json", is_flag=True, help="Print JSON, for programs.")
"""The option of commands that print something."""
