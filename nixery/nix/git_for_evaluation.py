"""git and Mercurial as a package set's evaluation may run them.

Nix runs them where a set fetches a repository, and they do what the configuration of a repository
says, which may be to run any program: on a folder of this machine they are refused. What is
fetched from elsewhere comes into repositories of Nix's own, below its cache.
"""

import os
import shlex
from collections.abc import Sequence

from nixery.nix.disk_faults import state_faults
from nixery.nix.refusals import CONFINED
from nixery.whole_file import whole_file

_REFUSING = """#!/bin/sh
echo {message} >&2
exit 1
"""
_GIT = """#!/bin/sh
refuse() {{
    echo {message} >&2
    exit 1
}}
check() {{
    case "$1/" in
        */../*) refuse ;;
        {folders}) ;;
        *) refuse ;;
    esac
}}
case "$1" in
    -C) check "$2" ;;
    -c | init | ls-remote) ;;
    *) refuse ;;
esac
for word; do
    case "$word" in
        file://*) check "${{word#file://}}" ;;
        /*) check "$word" ;;
    esac
done
PATH=${{PATH#*:}}
exec git "$@"
"""
_MESSAGE = f"error: {CONFINED}: {{program}} may not be run on folders of this machine"


def install(folder: str, allowed: Sequence[str]) -> None:
    """Make the two programs.

    :param folder: is to be the first of ``PATH``.
    :param allowed: folders whose repositories git may be run on; if there is none, it may not even
        ask others.
    """
    patterns = " | ".join(f"{shlex.quote(path.rstrip('/'))}/*" for path in allowed)
    with state_faults():
        os.makedirs(folder, exist_ok=True)
        for program in ("git", "hg"):
            script = _GIT if program == "git" and allowed else _REFUSING
            message = shlex.quote(_MESSAGE.format(program=program))
            path = os.path.join(folder, program)
            with whole_file(path, mode=0o755) as file:
                file.write(script.format(message=message, folders=patterns).encode("utf-8"))
