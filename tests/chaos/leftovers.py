"""What may not be left when the daemon has ended, or is at rest."""

from contextlib import suppress
from pathlib import Path

import attrs
import psutil

from tests.chaos.machine import Machine

MEMORY_SLACK = 60_000_000
"""Bytes that a daemon may hold more after a run than after its warm-up: what it remembers of
builds, and what the allocator does not give back."""
DESCRIPTOR_SLACK = 8
"""Descriptors that it may hold more: pipes of packing processes that started later."""


@attrs.frozen
class Usage:
    """What a daemon takes of the machine.

    :param memory: bytes.
    """

    memory: int
    descriptors: int

    @classmethod
    def of(cls, process: psutil.Process) -> "Usage":
        """That of a process now."""
        return cls(process.memory_info().rss, process.num_fds())

    def is_near(self, before: "Usage") -> bool:
        """Whether it is hardly more than it was."""
        return (
            self.memory <= before.memory + MEMORY_SLACK
            and self.descriptors <= before.descriptors + DESCRIPTOR_SLACK
        )

    def __str__(self) -> str:
        return f"{self.memory / 1e6:.0f} MB and {self.descriptors} descriptors"


def processes_of(mark: str) -> list[psutil.Process]:
    """All processes with a mark in their environment, whoever their parents are."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def files_left(machine: Machine) -> list[Path]:
    """Temporary files, locks, leases and roots of builds that are still there."""
    state, storage = machine.state, machine.storage
    places = (storage / "staging", storage / "leases", state / "roots", state / "git" / "tmp")
    inside = [path for place in places if place.exists() for path in place.rglob("*")]
    # git's, Python's and our own names of what is not whole yet; layers have digests for names.
    unfinished = [
        path
        for folder in state.iterdir()
        for path in (folder.rglob("*") if folder != storage else ())
        if path.suffix in (".lock", ".new") or (path.name.startswith("tmp") and path.name != "tmp")
    ]
    return [*inside, *unfinished, *machine.temporary.iterdir()]
