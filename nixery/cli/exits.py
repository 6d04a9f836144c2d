"""How a command ends that does not succeed: an exit code, and a sentence with what to do."""

import click

FAILED = 1
USAGE = 2
NOT_FOUND = 3
NO_DAEMON = 4
DIFFERS = 5
INTERRUPTED = 130

MEANINGS = {
    0: "it is done",
    FAILED: "it was tried, and failed: the build, say",
    USAGE: "the command line is wrong",
    NOT_FOUND: "there is no such image, build or tag",
    NO_DAEMON: "no daemon was reached, or it refused the request",
    DIFFERS: "verification or comparison found a difference",
    INTERRUPTED: "Ctrl-C",
}
"""Exit codes, as docs/command.md has them."""


class CommandFailed(click.ClickException):
    """The end of a command with another exit code than 0.

    :param message: a sentence for people, without a dot at its end.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code = exit_code
