"""Programs that need to be told where their files are."""

import os
import re
import sys
from typing import Any


def wrap_programs(out: str, depends: dict[str, str], wrapping: dict[str, Any]) -> None:
    """Put scripts that set environment variables in the place of programs.

    :param depends: name → store path, for ``@name@`` in the variables' values.
    :param wrapping: an entry of ``wrapped`` in ``roots.json``.
    """
    exports = "".join(
        export(name, substitute(value, out, depends), name in wrapping["prepended"])
        for name, value in wrapping["environment"].items()
    )
    for program in wrapping["programs"]:
        path = f"{out}/bin/{program}"
        if os.path.exists(path):
            real = f"{out}/bin/.{program}-wrapped"
            os.rename(path, real)
            with open(path, "w") as file:
                file.write(f'#!{depends["bash"]}/bin/bash\n{exports}exec -a "$0" {real} "$@"\n')
            os.chmod(path, 0o755)
        elif not wrapping["optional"]:
            sys.exit(f"there is no program to wrap at {path}")


def substitute(text: str, out: str, depends: dict[str, str]) -> str:
    """``@out@`` and ``@name@`` → store paths."""
    return re.sub(r"@([^@]+)@", lambda match: {"out": out, **depends}[match[1]], text)


def export(name: str, value: str, prepended: bool) -> str:
    """A line of shell that sets a variable, before what the user has in it if that is wanted."""
    rest = f"${{{name}:+:${name}}}" if prepended else ""
    return f"export {name}={value}{rest}\n"
