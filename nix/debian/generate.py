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
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apt import Apt, SetupError
from deb import inspect
from graph import make_lock

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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--refresh", action="store_true", help="look for newer packages")
    arguments = parser.parse_args()
    try:
        generate(
            arguments.folder.absolute(), arguments.arch or list(ARCHITECTURES), arguments.refresh
        )
    except (SetupError, OSError) as error:
        print(f"cannot make the package set: {error}", file=sys.stderr)
        return 1
    return 0


def generate(folder: Path, architectures: list[str], refresh: bool) -> None:
    """Make the set in a folder, or what is missing of it."""
    packages, debs = folder / "pkgs", folder / "debs"
    packages.mkdir(parents=True, exist_ok=True)
    debs.mkdir(exist_ok=True)
    _copy_expressions(packages)
    _write(folder / "nix.conf", NIX_CONF.format(debs=debs))
    todo = [a for a in architectures if refresh or not _is_whole(folder, a)]
    if not todo:
        return
    if shutil.which("patchelf") is None:
        raise SetupError("patchelf is needed to build the packages: install it")
    print(f"making the package set for {' and '.join(todo)}", file=sys.stderr)
    with ThreadPoolExecutor(len(todo)) as threads:
        list(threads.map(lambda architecture: _make(folder, architecture), todo))


def _make(folder: Path, architecture: str) -> None:
    roots = json.loads((HERE / "roots.json").read_text("utf-8"))
    apt = Apt(folder / f"apt-{architecture}", architecture)
    apt.update()
    names = sorted({*roots["attributes"].values(), *roots["also"]})
    files = apt.download(names, folder / "debs")
    with ThreadPoolExecutor() as threads:
        debs = {deb.name: deb for deb in threads.map(inspect, files)}
    lock = make_lock(debs, roots, architecture)
    lock["made-from"] = _recipe()
    _write(_lock_file(folder, architecture), json.dumps(lock, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(apt.folder)


def _recipe() -> str:
    """What the lock files depend on besides the packages."""
    whole = hashlib.sha256()
    for name in ("roots.json", "graph.py", "deb.py"):
        whole.update((HERE / name).read_bytes())
    return whole.hexdigest()


def _is_whole(folder: Path, architecture: str) -> bool:
    """Whether a lock file is there, made as we would make it, with all packages that it names."""
    try:
        lock = json.loads(_lock_file(folder, architecture).read_text("utf-8"))
        packages = lock["packages"].values()
        files = [deb["file"] for package in packages for deb in package["debs"]]
    except (OSError, ValueError, KeyError):
        return False
    there = set(os.listdir(folder / "debs"))
    return lock.get("made-from") == _recipe() and there.issuperset(files)


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
