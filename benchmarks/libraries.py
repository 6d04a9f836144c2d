"""What it costs to have interpreters and libraries find each other.

Run by ``make bench``. Nix makes images of packages that are built already, in turns with and
without ``nix/environments.nix``; and a daemon makes them, which says how often Nix is started and
how much of one image is in another.
"""

import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.service import milliseconds
from nixery.model.image import parse_image
from nixery.model.source import FolderContents, LocalFolder, PinnedSource, canonical_json
from nixery.nix.realise import request_for
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import STORE, TOP, PackageSet, make_package_set

ROUNDS = 20
GOAL = 60  # milliseconds, for images with libraries
IMAGES = ("shell/git", "shell/python3", "shell/python3/python3packages.six", "perlpackages.error")
WITHOUT = "_: entries: entries"


def build(package_set: PackageSet, name: str, combine: str | None) -> None:
    """Have Nix find and build an image's packages, as the daemon does.

    :param combine: what there is instead of ``environments.nix``.
    """
    path = str(package_set.folder)
    pinned = PinnedSource(LocalFolder(path), FolderContents(path, "1"))
    source = {"type": "path", "path": path}
    request = request_for(parse_image(name, "latest"), pinned, source, "@nixery@")
    subprocess.run(
        [
            *("nix-build", "--store", str(STORE), "--no-out-link", str(TOP / "nix/realise.nix")),
            *("--argstr", "request", canonical_json(request)),
            *("--log-format", "internal-json"),
            *(() if combine is None else ("--arg", "combine", combine)),
        ],
        env={**os.environ, **package_set.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


def evaluation(package_set: PackageSet) -> None:
    """The time that environments take of Nix."""
    print(f"Nix, for packages that are built, {ROUNDS} times in turns (goal: {GOAL} ms more)")
    for name in IMAGES:
        ways: dict[str, list[float]] = {"without": [], "with": []}
        for number in range(ROUNDS + 1):
            for way, combine in (("without", WITHOUT), ("with", None)):
                took = milliseconds(lambda: build(package_set, name, combine))  # noqa: B023
                if number:  # the first one builds what is missing
                    ways[way].append(took)
        without, with_them = (statistics.median(times) for times in ways.values())
        print(
            f"  {name:34} without {without:6.1f} ms   with {with_them:6.1f} ms   "
            f"more {with_them - without:5.1f} ms"
        )


def layers(daemon: Daemon, name: str) -> dict[str, int]:
    """The layers of an image, with their sizes."""
    manifest: Any = daemon.pull(name).json()
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def images(package_set: PackageSet, folder: Path) -> None:
    """How often Nix is started for an image, and what two images share."""
    with running(folder / "state", package_set.environ) as daemon:
        for name in IMAGES:
            before = daemon.nix_builds
            layers(daemon, name)
            print(f"  {name:34} nix-build started {daemon.nix_builds - before} time")
        plain, more = layers(daemon, IMAGES[1]), layers(daemon, IMAGES[2])
    shared = sum(size for digest, size in more.items() if digest in plain)
    total = sum(more.values())
    print(f"  {IMAGES[2]} has {shared / total:.1%} of its bytes from {IMAGES[1]}")


def main() -> None:
    package_set = make_package_set()
    evaluation(package_set)
    with tempfile.TemporaryDirectory() as name:
        images(package_set, Path(name))


if __name__ == "__main__":
    main()
