"""``nixery check``: whether the daemon could start, and do its work."""

import click

from nixery.cli.serve import RAW, run_daemon


@click.command(context_settings=RAW, add_help_option=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Check the settings and what a start needs.

    It is tried, and what would run is printed.

    The options are those of 'nixery serve'.
    """
    run_daemon("--check", *options)
