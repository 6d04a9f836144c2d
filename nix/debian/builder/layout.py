"""Where the files of a Debian package lie in a store path."""

import os
import re
import shutil
import tarfile

TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

# Documentation, other programs' plugins, and what only a running Debian system has a use for.
_LEFT_OUT = re.compile(
    r"(usr/)?share/(doc|man|info|lintian|bug|locale|menu|doc-base|bash-completion|apport|gdb"
    r"|pixmaps|applications|icons|metainfo)(/|$)"
    r"|(var|run)(/|$)"
    r"|etc/(init\.d|cron|default|logrotate|apt|dpkg|systemd|alternatives|rc)"
    r"|(usr/)?lib/(systemd|udev|tmpfiles\.d|sysusers\.d|debug|mime)"
)
_MOST_PASSES = 4
_COPY = 1 << 20


def place(path: str, arch: str) -> str | None:
    """Debian's path → the place in a store path, both relative; nothing for what is left out."""
    if _LEFT_OUT.match(path):
        return None
    path = re.sub(r"^usr/", "", path)
    path = re.sub(r"^(s?bin|games)/", "bin/", path)
    path = re.sub(r"^lib64/(ld-linux[^/]*)$", r"lib/\1", path)
    return re.sub(rf"^lib/{TRIPLES[arch]}/", "lib/", path)


class Layout:
    """The output of one package while it is filled.

    :param depends: the store paths that links may lead to.
    """

    def __init__(self, out: str, depends: list[str], arch: str) -> None:
        self._out = out
        self._depends = depends
        self._arch = arch
        self._links: list[tuple[str, str, str]] = []

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, only: str = "") -> None:
        """Put a member of a package's archive in its place.

        :param only: what the place begins with, if it is wanted.
        """
        path = os.path.normpath(member.name).lstrip("/")
        placed = place(path, self._arch)
        if placed is None or member.isdir() or not placed.startswith(only):
            return
        full = os.path.join(self._out, placed)
        if member.issym():
            self._links.append((path, full, member.linkname))
        elif not os.path.lexists(full):
            os.makedirs(os.path.dirname(full), exist_ok=True)
            self._write(tar, member, full)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, full: str) -> None:
        if member.islnk():
            first = place(os.path.normpath(member.linkname).lstrip("/"), self._arch)
            if first and os.path.exists(os.path.join(self._out, first)):
                shutil.copy(os.path.join(self._out, first), full)
        elif content := tar.extractfile(member):
            with open(full, "wb") as file:
                shutil.copyfileobj(content, file, _COPY)
            # A store has no set-uid bits.
            os.chmod(full, 0o755 if member.mode & 0o111 else 0o644)

    def place_links(self) -> None:
        """Make the links whose targets are here or in a dependency; the others are dropped.

        Links lead to links: what finds no target in one pass may find it in the next.
        """
        links = self._links
        for _ in range(_MOST_PASSES):
            links = [link for link in links if not self._place_link(*link)]
        for path, _, target in links:
            print("left out a dangling link:", path, "->", target)

    def _place_link(self, path: str, full: str, target: str) -> bool:
        wanted = os.path.normpath(os.path.join("/", os.path.dirname(path), target)).lstrip("/")
        placed = place(wanted, self._arch)
        found = self._find(placed) if placed else None
        if found is None or found == full:
            return False
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if not os.path.lexists(full):
            inside = found.startswith(self._out + "/")
            os.symlink(os.path.relpath(found, os.path.dirname(full)) if inside else found, full)
        return True

    def _find(self, placed: str) -> str | None:
        candidates = (os.path.join(base, placed) for base in (self._out, *self._depends))
        return next((path for path in candidates if os.path.lexists(path)), None)

    def remove_empty_folders(self) -> None:
        """Remove what only held things that were left out."""
        for folder, _, _ in os.walk(self._out, topdown=False):
            if folder != self._out and not os.listdir(folder):
                os.rmdir(folder)
