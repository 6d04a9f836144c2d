"""The tests' package set: real programs made of Debian packages, and packages that misbehave."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs

TOP = Path(__file__).resolve().parents[2]
KEPT = Path(os.environ.get("NIXERY_TEST_STATE", TOP / ".state" / "tests"))
"""Package set and Nix store, kept between runs: they take a while to make."""
STORE = KEPT / "store"

_SLOW = """
{{ system ? builtins.currentSystem, config ? {{ }}, overlays ? [ ] }}:
import ../test-pkgs {{ inherit system; }} // {{
  slow = derivation {{
    name = "slow-{unique}"; inherit system; builder = "/bin/sh";
    args = [ "-c" ''
      i=0; while [ $i -lt {seconds} ]; do i=$((i+1)); echo step $i; /bin/sleep 1; done
      /bin/mkdir -p $out/bin; echo done > $out/bin/slow; exit 0
    '' ];
  }};
}}
"""


@attrs.frozen
class PackageSet:
    """A package set, and what the daemon needs to use it.

    :param folder: holds its ``default.nix``.
    :param environ: settings of the daemon and of Nix.
    """

    folder: Path
    environ: dict[str, str]

    def with_slow(self, seconds: int) -> "PackageSet":
        """The set with a package ``slow`` that takes some seconds and was never built before."""
        unique = time.time_ns()
        folder = self.folder.parent / f"slow-{unique}"
        folder.mkdir()
        (folder / "default.nix").write_text(_SLOW.format(unique=unique, seconds=seconds))
        return PackageSet(folder, {**self.environ, "NIXERY_PKGS_PATH": str(folder)})

    def with_hostile(self, unique: str) -> "PackageSet":
        """The set with packages that mean harm, none of which was ever built before.

        :param unique: is in the environment of their builders, as ``HOSTILE_MARK``.
        """
        folder = self.folder.parent / f"slow-{unique}"
        folder.mkdir()
        shutil.copy(TOP / "tests" / "packages" / "hostile.nix", folder)
        (folder / "default.nix").write_text(
            "{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:\n"
            f'import ./hostile.nix {{ inherit system config overlays; unique = "{unique}"; }}\n'
        )
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


def make_package_set() -> PackageSet:
    """Make the set, or what is missing of it."""
    packages = KEPT / "packages"
    generate = TOP / "nix" / "debian" / "generate.py"
    subprocess.run([sys.executable, str(generate), str(packages)], check=True)
    for leftover in packages.glob("slow-*"):
        shutil.rmtree(leftover)
    folder = packages / "test-pkgs"
    folder.mkdir(exist_ok=True)
    shutil.copy(TOP / "tests" / "packages" / "default.nix", folder)
    environ = {
        "NIX_CONF_DIR": str(packages),
        "NIX_USER_CONF_FILES": "/dev/null",
        "NIXERY_NIX_STORE": str(STORE),
        # Sets in this folder are made of each other: it is what evaluation may read.
        "NIX_PATH": f"tests={packages}",
        "NIXERY_PKGS_PATH": str(folder),
    }
    return PackageSet(folder, environ)
