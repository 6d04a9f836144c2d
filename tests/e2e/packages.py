"""The tests' package set: real programs made of Debian packages, and packages that misbehave."""

import fcntl
import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

TOP = Path(__file__).resolve().parents[2]
KEPT = Path(os.environ.get("NIXERY_TEST_STATE", TOP / ".state" / "tests"))
"""Package set and Nix store, kept between runs: they take a while to make."""
STORE = KEPT / "store"

_SLOW = """
{{ system ? builtins.currentSystem, config ? {{ }}, overlays ? [ ] }}:
import {usual} {{ inherit system; }} // {{
  slow = derivation {{
    name = "slow-{unique}"; inherit system; builder = "/bin/sh";
    args = [ "-c" ''
      i=0
      while [ $i -lt 3 ] || [ ! -e {gate} ]; do i=$((i+1)); echo step $i; /bin/sleep 0.5; done
      echo last step; /bin/mkdir -p $out/bin; echo done > $out/bin/slow; exit 0
    '' ];
  }};
}}
"""
_HOSTILE = """
{{ system ? builtins.currentSystem, config ? {{ }}, overlays ? [ ] }}:
import ./hostile.nix {{ inherit system config overlays; set = {usual}; unique = "{unique}"; }}
"""


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Do something with what is kept while no other run of the tests does the same.

    :param name: says what.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@attrs.frozen
class PackageSet:
    """A package set, and what the daemon needs to use it.

    :param folder: holds its ``default.nix``.
    :param environ: settings of the daemon and of Nix.
    """

    folder: Path
    environ: dict[str, str]

    def with_slow(self, place: Path) -> "SlowSet":
        """The set with a package ``slow``, never built before, that takes until it is let go on.

        :param place: the folder to make the set in.
        """
        folder, gate, unique = place / "slow", place / "gate", time.time_ns()
        folder.mkdir(parents=True)
        gate.mkdir()
        text = _SLOW.format(usual=self.folder, unique=unique, gate=gate / "open")
        (folder / "default.nix").write_text(text)
        # The builder sees when the gate is opened, in its sandbox too.
        more = {"NIXERY_PKGS_PATH": str(folder), "NIX_CONFIG": f"extra-sandbox-paths = {gate}"}
        return SlowSet(folder, {**self.environ, **more}, gate / "open")

    def with_hostile(self, place: Path, unique: str) -> "PackageSet":
        """The set with packages that mean harm, none of which was ever built before.

        :param place: the folder to make the set in.
        :param unique: is in the environment of their builders, as ``HOSTILE_MARK``.
        """
        folder = place / "hostile"
        folder.mkdir(parents=True)
        shutil.copy(TOP / "tests" / "packages" / "hostile.nix", folder)
        (folder / "default.nix").write_text(_HOSTILE.format(usual=self.folder, unique=unique))
        return PackageSet(folder, {**self.environ, "NIXERY_PKGS_PATH": str(folder)})

    def like_nixpkgs(self, authority: str) -> "PackageSet":
        """The set in the shape of nixpkgs.

        :param authority: the file of a certificate that its ``cacert`` has besides others.
        """
        folder = self.folder.parent / "nixpkgs"
        folder.mkdir(exist_ok=True)
        shutil.copy(TOP / "tests" / "packages" / "nixpkgs.nix", folder / "default.nix")
        shutil.copy(authority, folder / "authority.pem")
        return PackageSet(folder, {**self.environ, "NIXERY_PKGS_PATH": str(folder)})


@attrs.frozen
class SlowSet(PackageSet):
    """A set whose package ``slow`` prints steps, three at least, until it is let go on.

    :param gate: the file that lets it.
    """

    gate: Path

    def go_on(self) -> None:
        """Let the package be done."""
        self.gate.touch()


def make_package_set() -> PackageSet:
    """Make the set, or what is missing of it."""
    packages = KEPT / "packages"
    generate = TOP / "nix" / "debian" / "generate.py"
    folder, source = packages / "test-pkgs", TOP / "tests" / "packages" / "default.nix"
    with alone("packages"):
        subprocess.run([sys.executable, str(generate), str(packages)], check=True)
        folder.mkdir(exist_ok=True)
        # Another run may use it: it stays as it is, or is whole at any time.
        if not (folder / "default.nix").exists() or not filecmp.cmp(source, folder / "default.nix"):
            shutil.copy(source, folder / ".new")
            (folder / ".new").replace(folder / "default.nix")
    environ = {
        "NIX_CONF_DIR": str(packages),
        "NIX_USER_CONF_FILES": "/dev/null",
        "NIXERY_NIX_STORE": str(STORE),
        # Sets in this folder are made of each other: it is what evaluation may read.
        "NIX_PATH": f"tests={packages}",
        "NIXERY_PKGS_PATH": str(folder),
    }
    return PackageSet(folder, environ)
