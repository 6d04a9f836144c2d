"""Debian packages from this machine's own apt sources, without touching its apt state."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_URI = re.compile(r"'([^']+)' (\S+) (\d+)")
# Characters that no store path's name may have; apt writes an epoch's colon as %3a.
_ODD = re.compile(r"[^A-Za-z0-9+._-]")
# apt leaves out of its list what it finds in its archives: here it never does.
_NO_ARCHIVES = "Dir::Cache::archives=/nonexistent/"


class SetupError(Exception):
    """The set can't be made on this machine; the message is for its user."""


@dataclass(frozen=True)
class Apt:
    """apt with lists, cache and an empty status of its own, for one architecture.

    :param folder: where these lie.
    :param architecture: as Debian names it: ``amd64``, ``arm64``.
    """

    folder: Path
    architecture: str

    def update(self) -> None:
        """Fetch the lists of packages."""
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        self._run("update")

    def download(self, roots: list[str], debs: Path) -> list[Path]:
        """Download packages and all that they depend on.

        :param debs: the folder that the files are put in, under names that Nix can use.
        """
        names = self._closure(roots)
        self._run("install", "--download-only", *roots)
        archives = self.folder / "cache" / "archives"
        return [_link(archives / name, debs / _clean(name)) for name in names]

    def _closure(self, roots: list[str]) -> list[str]:
        lines = self._run("-o", _NO_ARCHIVES, "install", "--print-uris", *roots).splitlines()
        return sorted(match[2] for line in lines if (match := _URI.match(line)))

    def _run(self, *arguments: str) -> str:
        options = {
            "Dir::State": self.folder,
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
        }
        settings = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
        return run(["apt-get", "-qq", "-y", *settings, *arguments])


def run(argv: list[str]) -> str:
    """What a program prints.

    :raises SetupError: with its last words if it fails, or is not there.
    """
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise SetupError(f"{argv[0]} is needed to make the package set: install it") from None
    if done.returncode != 0:
        words = " ".join(done.stderr.split()[-60:])
        raise SetupError(f"{argv[0]} failed: {words}")
    return done.stdout


def _clean(name: str) -> str:
    return _ODD.sub("-", name.replace("%3a", "."))


def _link(archive: Path, deb: Path) -> Path:
    if not deb.exists():
        beside = deb.with_name(f".{deb.name}")
        shutil.copyfile(archive, beside)
        beside.rename(deb)
    return deb
