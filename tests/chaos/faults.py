"""Faults that are injected for real."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.chaos.images import LARGE, MovingSource
from tests.chaos.machine import Ballast, Machine, descendants
from tests.chaos.numbers import Numbers
from tests.chaos.proxy import CuttingProxy
from tests.chaos.schedule import Fault
from tests.waiting import HUNG

_SHOWS_UP = 5.0  # seconds in which somebody to kill may show up
_FULL_FOR = 4.0  # seconds, at most


class Faults:
    """Has one fault after the other happen."""

    def __init__(
        self, machine: Machine, source: MovingSource, proxy: CuttingProxy, numbers: Numbers
    ) -> None:
        self._machine = machine
        self._source = source
        self._proxy = proxy
        self._numbers = numbers
        self._ballast = Ballast(machine.disk)
        self._bereaved: list[tuple[float, str, psutil.Process]] = []
        self._kinds: dict[str, Callable[[Fault], bool]] = {
            "kill": self._kill,
            "daemon": self._restart,
            "disk": self._fill,
            "flip": lambda fault: self._damage_blob(fault, _flip),
            "cut blob": lambda fault: self._damage_blob(fault, _shorten),
            "delete": lambda fault: self._damage_blob(fault, _delete),
            "damage": self._damage_record,
            "cut sockets": lambda fault: self._proxy.cut(fault.extent, fault.choice) > 0,
            "move": self._move,
        }

    def happen(self, faults: list[Fault]) -> None:
        """Have all of them happen, each at its time or right after the one before."""
        start = time.monotonic()
        waiting = threading.Event()
        for fault in faults:
            waiting.wait(max(0.0, start + fault.at - time.monotonic()))
            happen = next(do for kind, do in self._kinds.items() if fault.kind.startswith(kind))
            self._numbers.fault(fault.kind if happen(fault) else "found nothing to harm")
            self._mourn()

    def end(self) -> None:
        """Wait until nobody is left whose parent was killed; note those who stay."""
        while self._bereaved:
            self._mourn()
            time.sleep(0.1)

    def _mourn(self) -> None:
        """Forget whom nobody will miss, note who is still there after the time he had."""
        still = []
        for since, why, process in self._bereaved:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if time.monotonic() - since < HUNG:
                still.append((since, why, process))
            else:
                with suppress(psutil.Error):
                    self._numbers.violated(f"{process} {process.cmdline()} outlives {why}")
                    process.kill()
        self._bereaved = still

    def _expect_gone(self, why: str, processes: list[psutil.Process]) -> None:
        self._bereaved += [(time.monotonic(), why, process) for process in processes]

    # --- processes ------------------------------------------------------------------------

    def _kill(self, fault: Fault) -> bool:
        _, whom, how = fault.kind.split()
        if whom == "packer":
            # For there to be something that takes time to pack, and room for it.
            self._delete_large()
            self._source.change("large")
        victim = self._find(whom, fault.choice)
        if victim is None:
            return False
        family = descendants(victim)
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.Signals[f"SIG{how}"])
        if whom == "nix" and how == "KILL":
            self._expect_gone("a nix-build that was killed", family)
        return True

    def _find(self, whom: str, choice: float) -> psutil.Process | None:
        """One of the daemon's descendants, as soon as there is one of a kind."""
        deadline = time.monotonic() + _SHOWS_UP
        while time.monotonic() < deadline:
            there = [child for child in self._machine.children() if _is(whom, child)]
            if there:
                return there[int(choice * len(there))]
            time.sleep(0.02)
        return None

    def _restart(self, fault: Fault) -> bool:
        number = signal.Signals[f"SIG{fault.kind.split()[1]}"]
        self._expect_gone(f"a daemon that got {number.name}", self._machine.stop(number))
        self._machine.start()
        return True

    # --- the disk -------------------------------------------------------------------------

    def _fill(self, fault: Fault) -> bool:
        if fault.kind.endswith("files"):
            self._ballast.fill_with_files()
        else:
            self._ballast.fill()
        threading.Event().wait(fault.extent * _FULL_FOR)
        self._ballast.free()
        return True

    def _damage_blob(self, fault: Fault, damage: Callable[[Path, float], None]) -> bool:
        return self._damage(["layers"], fault, damage)

    def _damage_record(self, fault: Fault) -> bool:
        damage = (_flip, _shorten, _replace)[int(fault.extent * 3)]
        return self._damage(["builds", "manifests"], fault, damage)

    def _damage(
        self, folders: list[str], fault: Fault, damage: Callable[[Path, float], None]
    ) -> bool:
        places = [self._machine.storage / folder for folder in folders]
        files = sorted(path for place in places if place.exists() for path in place.iterdir())
        if not files:
            return False
        with suppress(FileNotFoundError):
            damage(files[int(fault.choice * len(files))], fault.extent)
        return True

    def _delete_large(self) -> None:
        for path in (self._machine.storage / "layers").iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_size >= LARGE:
                    path.unlink()

    # --- the source -----------------------------------------------------------------------

    def _move(self, fault: Fault) -> bool:
        move = {
            "package": self._source.change_package,
            "file": self._source.change_file,
            "history": self._source.rewrite,
        }
        move[fault.kind.split()[1]](fault.choice)
        return True


def _is(whom: str, process: psutil.Process) -> bool:
    """Whether a process is of a kind."""
    try:
        name, command = process.name(), " ".join(process.cmdline())
    except psutil.Error:
        return False
    match whom:
        case "nix":
            return name in ("nix-build", "nix", "nix-store")
        case "git":
            return name.startswith("git")
        case "packer":
            # One that is at work, if any is: an idle one is no loss.
            return "nixery.packing.worker" in command and process.status() != "sleeping"
        case "builder":
            return name in ("sh", "sleep") and "nixery" not in command
        case _:
            return True


def _flip(path: Path, extent: float) -> None:
    """Another byte in one place, written into the file as it is."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            offset = int(extent * size)
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


def _shorten(path: Path, extent: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(extent * os.fstat(file.fileno()).st_size))


def _replace(path: Path, extent: float) -> None:
    path.write_text(["", "{}", "null", "[[[", '{"record": {}, "sha256": ""}'][int(extent * 5)])


def _delete(path: Path, _: float) -> None:
    path.unlink()
