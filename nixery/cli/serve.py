"""``nixery serve``: ``twistd nixery`` in the foreground."""

import sys

import click

RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""For commands whose arguments are read by twistd's own options."""


@click.command(context_settings=RAW, add_help_option=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Run the daemon in the foreground.

    The options are those of 'twistd nixery'; 'nixery serve --help' lists them.
    """
    run_daemon(*options)


def run_daemon(*options: str) -> None:
    """Run the daemon until it is stopped, which ends the process."""
    from twisted.scripts import twistd

    sys.argv[1:] = ["--nodaemon", "--pidfile=", "nixery", *options]
    twistd.run()
