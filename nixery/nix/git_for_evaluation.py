"""git and Mercurial as a package set's evaluation may run them.

Nix runs them where a set fetches a repository, and they do what the configuration of a repository
says, which may be to run any program: on a folder of this machine they are refused. What is
fetched from elsewhere comes into repositories of Nix's own, below its cache.
"""

import os
import shlex

from nixery.nix.faults import state_faults

_REFUSING = """#!/bin/sh
echo {message} >&2
exit 1
"""
_GIT = """#!/bin/sh
refuse() {{
    echo {message} >&2
    exit 1
}}
within() {{
    case "$1" in
        *..*) refuse ;;
        {cache}/*) ;;
        *) refuse ;;
    esac
}}
last=
for last; do :; done
case "$1 $3" in
    "-C "*) within "$2" ;;
    "-c init") within "$last" ;;
    "ls-remote "*) ;;
    *) [ "$1" = init ] && within "$last" || refuse ;;
esac
export GIT_ALLOW_PROTOCOL=git:http:https:ssh
PATH=${{PATH#*:}}
exec git "$@"
"""
_MESSAGE = "error: {program} is not run on folders of this machine: evaluation is confined"


def install(folder: str, cache: str, remotes: bool) -> None:
    """Make the two programs.

    :param folder: is to be the first of ``PATH``.
    :param cache: holds Nix's own repositories.
    :param remotes: whether anything may be fetched from elsewhere by git.
    """
    with state_faults():
        os.makedirs(folder, exist_ok=True)
        for program in ("git", "hg"):
            text = _GIT if program == "git" and remotes else _REFUSING
            message = shlex.quote(_MESSAGE.format(program=program))
            path = os.path.join(folder, program)
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                file.write(text.format(message=message, cache=shlex.quote(cache)))
            os.chmod(f"{path}.new", 0o755)
            os.replace(f"{path}.new", path)
