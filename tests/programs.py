"""Programs of Nix, and git, that do nothing but say what the real ones would say.

For tests of what is made of their words, and of all that goes on around them.
"""

from pathlib import Path

_WORDS = {
    "nix": 'case "$*" in *version*) echo "nix (Nix) 2.8.0" ;; *) echo "sandbox = true" ;; esac',
    "nix-build": "true",
    "nix-instantiate": "echo '[]'",
    "nix-store": "true",
    "git": "echo 'fatal: the network is down' >&2; exit 128",
}


def make_programs(folder: Path, **others: str) -> Path:
    """Make the programs.

    :param folder: to put before others in ``PATH``; made here.
    :param others: scripts of the shell for some of them, by names with ``_`` for ``-``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in {**_WORDS, **{n.replace("_", "-"): s for n, s in others.items()}}.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return folder
