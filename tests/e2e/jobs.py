"""Containers of jobs, and the machine around them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import attrs

from tests.e2e.clients import Docker

NODE = Path(str(files("nodejs"))) / "bin" / "node"
"""A program that Nix did not make and that needs libstdc++, as the makers of Node.js publish it."""

HOST_USER = 1001
"""Whom files of a job belong to on the machine of a runner: nobody that an image knows."""


@attrs.frozen
class Job:
    """The container of a job, which runs."""

    docker: Docker
    container: str

    def exec(self, *command: str, options: tuple[str, ...] = (), given: str = "") -> str:
        """The output of a command in it that must succeed."""
        return self.docker.ok("exec", *options, self.container, *command, given=given)


@contextmanager
def job(docker: Docker, *arguments: str) -> Iterator[Job]:
    """Run a container in the background for a while.

    :param arguments: options, the image, its command.
    """
    container = docker.ok("run", "-d", "--network=none", *arguments).strip()
    try:
        yield Job(docker, container)
    finally:
        docker.ok("rm", "-f", container)


def lay(place: Path, contents: Mapping[str, str | None]) -> None:
    """Make a folder with files that can be run, and with empty folders.

    It belongs to the machine's user, and everybody may write to it.

    :param contents: name → text; nothing for a folder.
    """
    for name, text in {"": None, **contents}.items():
        path = place / name
        folder = path if text is None else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
        for each in (path, *(p for p in path.parents if p.is_relative_to(place))):
            each.chmod(0o777)
            os.chown(each, HOST_USER, HOST_USER)


def mounts(mounted: Mapping[Path, str]) -> list[str]:
    """Options of docker that mount files or folders of the machine."""
    return [word for here, there in mounted.items() for word in ("-v", f"{here}:{there}")]


def variables(told: Mapping[str, str]) -> list[str]:
    """Options of docker that set variables."""
    return [word for name, value in told.items() for word in ("-e", f"{name}={value}")]
