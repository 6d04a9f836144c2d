"""Debian packages from this machine's own apt sources, without touching its apt state."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from programs import Ran, SetupError, at_once, ignore, run

_URI = re.compile(r"'[^']+' (\S+) (\d+) SHA256:([0-9a-f]{64})")
_STATUS = re.compile(r"dlstatus:\d+:([0-9.]+):")
# Characters that no store path's name may have; apt writes an epoch's colon as %3a.
_ODD = re.compile(r"[^A-Za-z0-9+._-]")
# apt leaves out of its list what it finds in its archives: here it never does.
_NO_ARCHIVES = "Dir::Cache::archives=/nonexistent/"
_PIECE = 1 << 20
_UNREACHABLE = re.compile(
    r"(?:Temporary failure resolving|Could not resolve|Could not connect to|Cannot initiate the"
    r" connection to|Unable to connect to) '?[^\s':]+'?"
    r"|Network is unreachable|No route to host|Connection timed out|Connection failed"
)
_FULL = re.compile(r"No space left on device|enough free space")
_NOT_THERE = "404"
_ROOM = 200_000_000
"""Bytes that the lists of packages may take, with what apt makes of them."""
_MOST_DOWNLOADS = 2


class NoSuchArchitecture(SetupError):
    """apt's sources have no packages for an architecture."""


def _free(folder: Path) -> int:
    """The bytes that may still be written on the disk of a folder."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class PackageFile:
    """A package file, as apt's lists describe it.

    :param archive: how apt names it.
    :param size: its size in bytes.
    """

    archive: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """How it is named where Nix uses it."""
        return _ODD.sub("-", self.archive.replace("%3a", "."))

    def is_whole(self, path: Path) -> bool:
        """Whether a file is there and has what the package has."""
        try:
            return path.stat().st_size == self.size and sha256_of(path) == self.sha256
        except FileNotFoundError:
            return False


@dataclass(frozen=True)
class Apt:
    """apt with lists, cache and an empty status of its own, for one architecture.

    :param folder: where these lie; no other may use it at the same time.
    :param architecture: as Debian names it: ``amd64``, ``arm64``.
    :param program: runs apt's programs.
    :param free: the bytes that may still be written on the disk of a folder.
    """

    folder: Path
    architecture: str
    program: Callable[[list[str], Callable[[str], None]], Ran] = run
    free: Callable[[Path], int] = _free

    def update(self, names: Iterable[str]) -> set[str]:
        """Fetch the lists of packages.

        :returns: which of some packages there are.
        :raises NoSuchArchitecture: if there are none for the architecture.
        :raises SetupError: if apt can't reach what may have them.
        """
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        absent = f"this machine's apt has no packages for {self.architecture}"
        try:
            warnings = self._run("apt-get", "update").errors
        except SetupError as error:
            if _NOT_THERE in str(error) and not _UNREACHABLE.search(str(error)):
                self._need_room()
                raise NoSuchArchitecture(absent) from None
            raise
        wanted = set(names)
        lines = self._run("apt-cache", "madison", *sorted(wanted)).output.splitlines()
        found = {line.partition("|")[0].strip() for line in lines} & wanted
        if found != wanted:
            # What could not be fetched is a warning to apt, but may be what is missing here.
            _explain(warnings)
        if not found:
            self._need_room()
            raise NoSuchArchitecture(absent)
        return found

    def download(
        self, roots: Iterable[str], debs: Path, tell: Callable[[str], None] = ignore
    ) -> list[PackageFile]:
        """Download packages and all that they depend on; what is there and whole is kept.

        :param debs: the folder that the files are put in, under names that Nix can use; other
            threads may put the same ones there.
        :param tell: is told how far it is.
        :raises SetupError: if apt fails, or what it downloads is not what its lists describe.
        """
        names = sorted(roots)
        files = self._closure(names)
        for _ in range(_MOST_DOWNLOADS):
            at_once(lambda file: self._offer(file, debs), files)
            self._run("apt-get", "install", "--download-only", *names, tell=_percent(tell))
            cut = at_once(lambda file: self._keep(file, debs), files)
            if not any(cut):
                return files
        words = ", ".join(filter(None, cut))
        raise SetupError(f"again and again, apt's servers send other files than they say: {words}")

    def _need_room(self) -> None:
        """Tell a full disk from a server that lacks something.

        A compressed list that apt has no room to unpack is asked for uncompressed, which servers do
        not have: then "404" is all that apt says.

        :raises OSError: if there is no room.
        """
        if self.free(self.folder) < _ROOM:
            raise _no_room()

    def _closure(self, roots: list[str]) -> list[PackageFile]:
        options = ("-o", _NO_ARCHIVES, "-o", "Acquire::ForceHash=SHA256")
        output = self._run("apt-get", *options, "install", "--print-uris", *roots).output
        matches = sorted(match.groups() for match in map(_URI.match, output.splitlines()) if match)
        return [PackageFile(archive, int(size), sha256) for archive, size, sha256 in matches]

    def _offer(self, file: PackageFile, debs: Path) -> None:
        """Give apt a file that it need not download."""
        if not self._archive(file).exists() and file.is_whole(debs / file.name):
            # What can't be linked is downloaded.
            with contextlib.suppress(OSError):
                os.link(debs / file.name, self._archive(file))

    def _keep(self, file: PackageFile, debs: Path) -> str | None:
        """Put a file where it is kept if it is whole, and remove it otherwise.

        One name takes the place of another at once: whichever threads do this with packages that
        several architectures share, and whenever we are stopped, what has the name is whole.

        :returns: its name if it is not whole.
        """
        archive = self._archive(file)
        whole = file.is_whole(archive)
        if whole:
            archive.replace(debs / file.name)
        # It is still there if both names were of one file.
        archive.unlink(missing_ok=True)
        return None if whole else file.archive

    def _archive(self, file: PackageFile) -> Path:
        return self.folder / "cache" / "archives" / file.archive

    def _run(self, *command: str, tell: Callable[[str], None] = ignore) -> Ran:
        options = {
            "Dir::State": self.folder,
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Get::Assume-Yes": "true",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "APT::Status-Fd": "1",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
            "quiet": "2",
        }
        settings = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
        program, *arguments = command
        try:
            return self.program([program, *settings, *arguments], tell)
        except SetupError as error:
            _explain(str(error))
            raise


def sha256_of(path: Path) -> str:
    """The digest of a file's contents, in hexadecimal digits."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest()


def _explain(words: str) -> None:
    """Say in one sentence what apt says in many.

    :raises SetupError: if it says that the network, or room on the disk, is missing.
    """
    if unreachable := _UNREACHABLE.search(words):
        raise SetupError(
            f"apt can't reach its servers ({unreachable[0]}): connect this machine to the network,"
            " or tell apt its proxy (Acquire::http::Proxy), and start again"
        )
    if _FULL.search(words):
        raise _no_room()


def _no_room() -> OSError:
    """What the system says of a full disk."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _percent(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tell how much apt has downloaded, every ten percent."""
    last = ""

    def heard(line: str) -> None:
        nonlocal last
        match = _STATUS.match(line)
        now = f"{float(match[1]) // 10 * 10:.0f} %" if match else last
        if now != last:
            last = now
            tell(f"downloading, {now}")

    return heard
