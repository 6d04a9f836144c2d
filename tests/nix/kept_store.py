"""A store in a folder, with a fake of the commands that keep its paths."""

import os
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor

from nixery.nix.child import Ended
from nixery.nix.gc_roots import KeptRoots

reactor: Any = _reactor


@attrs.define
class FakeCommands:
    """Makes links as Nix does, and notes what is collected.

    :ivar error: what making links fails with.
    :ivar code: what collecting ends with, and what it has said.
    """

    store: Any
    collected: list[tuple[str, ...]] = attrs.Factory(list)
    error: Exception | None = None
    code: int = 0
    errors: str = "deleting unused links...\nnote: hard linking saves -0.00 MiB"

    async def keep(self, paths: list[str], link: str) -> None:
        if self.error is not None:
            raise self.error
        for number, path in enumerate(paths, 1):
            Path(self.store + path).touch()
            os.symlink(path, link if number == 1 else f"{link}-{number}")

    async def run(self, *command: str, **options: Any) -> Ended:
        self.collected.append(command)
        freed = b"2 store paths deleted, 0.01 MiB freed\n"
        return Ended(self.code, None, False, freed, errors=self.errors)


class Store:
    """Kept roots in a folder, at a time of the test's own."""

    def __init__(self, folder: Path, days: float = 30) -> None:
        (folder / "nix" / "store").mkdir(parents=True)
        self.commands = FakeCommands(str(folder))
        self.time = 1e9
        self.folder = folder / "kept"
        commands: Any = self.commands
        self.kept = KeptRoots(reactor, commands, str(self.folder), days, lambda: self.time)

    def images(self) -> list[list[str]]:
        """The store paths of each image that is kept."""
        if not self.folder.exists():
            return []
        return sorted(
            sorted(os.readlink(link) for link in image.iterdir()) for image in self.folder.iterdir()
        )
