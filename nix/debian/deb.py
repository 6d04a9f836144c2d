"""What a Debian package says of itself."""

import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from programs import run

_NAME = re.compile(r"[a-z0-9.+-]+")
_HEAD = 128
_PROGRAM = re.compile(r"(?:\./)?(?:usr/)?(?:s?bin|games)/([^/]+)")
# Interpreters of scripts, and the packages that have them.
_INTERPRETERS = {"sh": "bash", "bash": "bash", "dash": "bash"}
_VERSIONED = ("perl", "python3")


@dataclass(frozen=True)
class Deb:
    """A package file.

    :param dependencies: groups of names, any of which will do.
    :param provides: other names that it goes by.
    :param interpreters: packages that its scripts need to run.
    :param programs: what it has in folders of programs.
    """

    name: str
    version: str
    description: str
    homepage: str
    file: str
    sha256: str
    dependencies: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]
    interpreters: frozenset[str]
    programs: frozenset[str] = frozenset()


def inspect(path: Path, sha256: str) -> Deb:
    """Read a package file.

    :param sha256: the digest of its contents.
    """
    fields = _fields(run(["dpkg-deb", "--field", str(path)]).output)
    executables = list(_executables(path))
    needed = ", ".join(filter(None, (fields.get("Depends"), fields.get("Pre-Depends"))))
    return Deb(
        name=fields["Package"],
        version=fields["Version"],
        description=fields.get("Description", "").partition("\n")[0],
        homepage=fields.get("Homepage", ""),
        file=path.name,
        sha256=sha256,
        dependencies=parse_dependencies(needed),
        provides=tuple(group[0] for group in parse_dependencies(fields.get("Provides", ""))),
        interpreters=frozenset(filter(None, (interpreter(first) for _, first in executables))),
        programs=frozenset(match[1] for name, _ in executables if (match := _PROGRAM.match(name))),
    )


def parse_dependencies(text: str) -> tuple[tuple[str, ...], ...]:
    """``a (>= 1), b | c:any`` → ``(("a",), ("b", "c"))``."""
    groups = (group.split("|") for group in text.split(",") if group.strip())
    matches = ([_NAME.match(name.strip()) for name in group] for group in groups)
    return tuple(tuple(match[0] for match in group if match) for group in matches)


def interpreter(shebang: str) -> str | None:
    """The package that a script's first line (without ``#!``) asks for."""
    words = shebang.split()
    if not words:
        return None
    program = words[0].rpartition("/")[2]
    if program == "env" and len(words) > 1:
        program = words[1]
    for prefix in _VERSIONED:
        if program.startswith(prefix):
            return prefix
    return _INTERPRETERS.get(program)


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            fields[last] += "\n" + line
        else:
            last, _, value = line.partition(":")
            fields[last] = value.strip()
    return fields


def _executables(path: Path) -> Iterator[tuple[str, str]]:
    """The names of programs, scripts and links, with the first lines of scripts, without ``#!``."""
    with (
        subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE
        ) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as tar,
    ):
        for member in tar:
            head = b""
            if member.isfile() and member.mode & 0o111 and "/share/doc/" not in member.name:
                content = tar.extractfile(member)
                head = content.read(_HEAD) if content else b""
            elif not (member.issym() or member.islnk()):
                continue
            script = head.startswith(b"#!")
            yield member.name, head[2:].partition(b"\n")[0].decode("latin-1") if script else ""
