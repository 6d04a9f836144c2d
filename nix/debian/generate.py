#!/usr/bin/env python3
"""Makes a Nix package set out of Debian packages: real programs, without any network but apt's.

``generate.py FOLDER`` needs apt, dpkg and patchelf, no root, and nothing of Python but its
standard library. It makes, in the folder:

- ``pkgs/``: the package set, with a lock file for each architecture,
- ``debs/``: the Debian packages that it is built from,
- ``nix.conf``: what Nix needs to be told to build it (``NIX_CONF_DIR=FOLDER``).

What is there already, and whole, is kept.
"""

import argparse
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apt import Apt, NoSuchArchitecture, sha256_of
from deb import inspect
from graph import make_lock, root_names
from programs import SetupError, at_once, run, stop
from progress import Progress

HERE = Path(__file__).resolve().parent
ARCHITECTURES = ("amd64", "arm64")
EXPRESSIONS = ("default.nix", "builder")

NIX_CONF = """\
# For Nix to build the package set beside this file.
sandbox = true
sandbox-fallback = false
# The builder is this machine's Python; it calls dpkg and patchelf.
sandbox-paths = /usr /bin /lib /lib64 {debs}
# The set is all there is: no binary cache knows it.
substitute = false
build-users-group =
max-jobs = auto
# A lost build is built again.
fsync-metadata = false
"""
# Nix separates sandbox-paths by spaces and reads the others as marks, there or in a URL.
_UNFIT = re.compile(r"[\s=?%#]")
NEEDED = "some 400 MB for the package set, and up to 1 GB for what Nix builds from it"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--refresh", action="store_true", help="look for newer packages")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    folder = arguments.folder.absolute()
    try:
        generate(folder, arguments.arch or list(ARCHITECTURES), arguments.refresh)
    except KeyboardInterrupt:
        print("stopped; what was downloaded is kept for the next time", file=sys.stderr)
        return 130
    except (SetupError, OSError) as error:
        print(f"cannot make the package set: {_sentence(error, folder)}", file=sys.stderr)
        return 1
    return 0


def _stopped(number: int, frame: object) -> None:
    """End what runs for us, which threads wait for that we wait for."""
    stop()
    raise KeyboardInterrupt


def _sentence(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room is left on the disk of {folder}: {NEEDED} are needed there"
    return str(error)


def generate(folder: Path, architectures: list[str], refresh: bool) -> None:
    """Make the set in a folder, or what is missing of it."""
    packages, debs = folder / "pkgs", folder / "debs"
    if unfit := _UNFIT.search(str(folder)):
        raise SetupError(
            f"Nix can't be told of a folder with {unfit[0]!r} in its path, as {folder} is: name"
            " another state folder, as in STATE_DIRECTORY=/srv/nixery make run"
        )
    packages.mkdir(parents=True, exist_ok=True)
    debs.mkdir(exist_ok=True)
    with _alone(folder):
        _copy_expressions(packages)
        _write(folder / "nix.conf", NIX_CONF.format(debs=debs))
        todo = [a for a in architectures if refresh or not is_whole(folder, a)]
        if todo:
            _make_all(folder, todo)


def _make_all(folder: Path, architectures: list[str]) -> None:
    if shutil.which("patchelf") is None:
        raise SetupError("patchelf is needed to build the packages: install it")
    own = run(["dpkg", "--print-architecture"]).output.strip()
    if own not in ARCHITECTURES:
        raise SetupError(
            f"there is none for {own}, only for {' and '.join(ARCHITECTURES)}: name another"
            " (NIXERY_CHANNEL, NIXERY_PKGS_REPO, NIXERY_PKGS_PATH or NIXERY_FLAKE)"
        )
    release = platform.freedesktop_os_release()["PRETTY_NAME"]
    words = f"making the package set for {' and '.join(architectures)}, from {release}"
    print(words, file=sys.stderr, flush=True)
    progress = Progress(sys.stderr)

    def make(architecture: str) -> None:
        lock = _lock_file(folder, architecture)
        try:
            made = _make(folder, architecture, lambda state: progress(architecture, state))
        except NoSuchArchitecture as error:
            if architecture == own:
                raise
            print(f"note: {error}: images for it are refused", file=sys.stderr, flush=True)
            made = {"absent": str(error)}
        made["made-from"] = recipe(platform.freedesktop_os_release())
        _write(lock, json.dumps(made, indent=1, sort_keys=True) + "\n")

    at_once(make, architectures)


def _make(folder: Path, architecture: str, tell: Callable[[str], None]) -> Any:
    """A lock file's contents; the packages that it names are there."""
    roots = json.loads((HERE / "roots.json").read_text("utf-8"))
    apt = Apt(folder / f"apt-{architecture}", architecture)
    tell("fetching the lists of packages")
    wanted = set(root_names(roots))
    found = apt.update(wanted)
    if found != wanted:
        words = f"note: for {architecture} this release does not have"
        print(words, ", ".join(sorted(wanted - found)), file=sys.stderr, flush=True)
    files = apt.download(found, folder / "debs", tell)
    tell("reading the packages")
    inspected = at_once(lambda file: inspect(folder / "debs" / file.name, file.sha256), files)
    lock = make_lock({deb.name: deb for deb in inspected}, roots, architecture, _release())
    shutil.rmtree(apt.folder)
    tell("done")
    return lock


def _release() -> str:
    """The release of Debian as package URLs name it: ``debian-12``; those to be have no number."""
    told = platform.freedesktop_os_release()
    return f"{told['ID']}-{told.get('VERSION_ID') or told.get('VERSION_CODENAME', 'sid')}"


def recipe(release: Mapping[str, str]) -> str:
    """What the lock files depend on besides the packages.

    :param release: what the machine says of itself: ``ID``, ``VERSION_CODENAME`` and others.
    """
    whole = hashlib.sha256(f"{release['ID']} {release.get('VERSION_CODENAME')}\n".encode())
    for name in ("roots.json", "graph.py", "deb.py"):
        whole.update((HERE / name).read_bytes())
    return whole.hexdigest()


def is_whole(folder: Path, architecture: str) -> bool:
    """Whether a lock file is there, made as we would make it, with all packages that it names.

    A package that is not what it was is removed.
    """
    try:
        lock = json.loads(_lock_file(folder, architecture).read_text("utf-8"))
        if lock["made-from"] != recipe(platform.freedesktop_os_release()):
            return False
        packages = lock.get("packages", {}).values()
        digests = {deb["file"]: deb["sha256"] for package in packages for deb in package["debs"]}
    except (OSError, ValueError, KeyError):
        return False
    return all(at_once(lambda name: _keep(folder / "debs" / name, digests[name]), digests))


def _keep(deb: Path, sha256: str) -> bool:
    if not deb.exists():
        return False
    if sha256_of(deb) == sha256:
        return True
    print(f"{deb.name} is damaged and is downloaded again", file=sys.stderr, flush=True)
    deb.unlink()
    return False


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes the set in this folder."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = f"waiting for another process that makes the package set in {folder}"
            print(words, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(folder: Path, architecture: str) -> Path:
    return folder / "pkgs" / f"packages-{architecture}.json"


def _copy_expressions(packages: Path) -> None:
    for name in EXPRESSIONS:
        source = HERE / name
        files = sorted(source.glob("*.py")) if source.is_dir() else [source]
        for file in files:
            target = packages / file.relative_to(HERE)
            target.parent.mkdir(exist_ok=True)
            _write(target, file.read_text("utf-8"))


def _write(path: Path, text: str) -> None:
    """Write a file whole, and leave it alone if it is as it should be."""
    if path.exists() and path.read_text("utf-8") == text:
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, "utf-8")
    beside.rename(path)


if __name__ == "__main__":
    sys.exit(main())
