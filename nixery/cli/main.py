"""The command ``nixery``: its subcommands, each in a module of its own, and how it ends.

A subcommand's module is imported when it is called, and imports what takes time when it needs it.
"""

import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from nixery.cli.exits import FAILED, INTERRUPTED, USAGE, CommandFailed

NAMES = (
    *("serve", "check", "pull-ready", "list", "show", "log", "search", "compare", "verify"),
    *("rm", "gc", "popcount"),
)
"""The subcommands, in the order of ``--help``."""


class Subcommands(click.Group):
    """The subcommands, imported when they are needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(NAMES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in NAMES:
            return None
        module = import_module(f"nixery.cli.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(context, arguments[0]) is None:
            raise click.UsageError(_unknown(arguments[0]), context)
        return super().resolve_command(context, arguments)

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        try:
            return super().parse_args(context, arguments)
        except click.NoSuchOption as error:
            from nixery.settings import SETTINGS

            if error.option_name.lstrip("-") in {"check", *(each.option for each in SETTINGS)}:
                # Before there were subcommands, these were taken here.
                text = f"{error.option_name} is an option of 'nixery serve'"
                raise click.UsageError(text, context) from None
            raise


def _unknown(name: str) -> str:
    from nixery.model.suggestions import nearest_names

    meant = [f"; did you mean {each}?" for each in nearest_names(name, list(NAMES))[:1]]
    return f"there is no command {name!r}{''.join(meant)}"


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from nixery.requirements import version

        click.echo(f"nixery {version()}")
        context.exit()


@click.command(
    cls=Subcommands,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version, and stop.",
)
@click.pass_context
def nixery(context: click.Context) -> None:
    """Run a registry whose images are made on demand, and look after it.

    Commands that ask a daemon find the one of this machine by its state folder, or another one by
    --url.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


def main() -> None:
    """Run a subcommand, and end with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # not all encodings have all letters
    try:
        code = nixery.main(prog_name="nixery", standalone_mode=False)
    except click.Abort:
        code = INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = USAGE
    except click.UsageError as error:
        hint = "" if error.ctx is None else f"; '{error.ctx.command_path} --help' says more"
        code = _fail(f"{error.format_message().rstrip('.')}{hint}", USAGE)
    except CommandFailed as error:
        code = _fail(error.message, error.code)
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except BrokenPipeError:
        code = FAILED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, is gone. Python flushes what is left when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    click.echo(f"nixery: {message}", err=True)
    return code
