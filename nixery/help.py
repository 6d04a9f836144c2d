"""What ``--help`` prints: every setting as an option, in the chapters of docs/settings.md."""

import textwrap

from nixery.variables import CHAPTERS, Variable

_INDENT = " " * 6
_ENDS = (
    ("--check", "Check the settings and all that a start needs, print what would run, and stop."),
    ("--version", "Print the version, and stop."),
    ("--help", "Print this, and stop."),
)


def usage(width: int) -> str:
    """The options, those of one chapter below its title.

    :param width: characters of a line.
    """
    parts = [
        _wrapped(
            "Every option may be given as the environment variable in brackets instead; where both "
            "are, the option counts.",
            width,
        )
    ]
    for title, variables in CHAPTERS.items():
        parts += ["", f"{title}:", *(_variable(each, width) for each in variables)]
    parts += ["", "Instead of a start:", *(_option(name, text, width) for name, text in _ENDS)]
    return "\n".join(parts) + "\n"


def text_of(variable: Variable) -> str:
    """What is said of a setting."""
    default = f" [default: {variable.default}]" if variable.default else ""
    return f"{variable.help} (${variable.name}){default}"


def _variable(variable: Variable, width: int) -> str:
    return _option(f"--{variable.option}=", text_of(variable), width)


def _option(name: str, text: str, width: int) -> str:
    return f"  {name}\n{_wrapped(text, width, _INDENT)}"


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
