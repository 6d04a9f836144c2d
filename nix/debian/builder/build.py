"""Builds one package of the set, inside Nix's sandbox: unpacks Debian packages into ``$out`` and
makes what is in them use only the store."""

import json
import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from layout import Layout
from patch import Patcher
from wrap import wrap_programs

COPY = 1 << 20


def unpack(layout: Layout, deb: str, only: str) -> None:
    """Put the files of a package in their places; links are kept for later.

    :param only: what the places begin with of those that are wanted.
    """
    print("unpacking", os.path.basename(deb), flush=True)
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|", bufsize=COPY) as tar,
    ):
        for member in tar:
            layout.add(tar, member, only)
    if process.returncode:
        sys.exit(f"dpkg-deb failed on {deb}")


def finish(pname: str, out: str) -> None:
    """What Debian does when it installs some packages."""
    if pname == "ca-certificates":
        bundle_certificates(out)
    for name, link, target in (
        ("bash", "sh", "bash"),
        ("debianutils", "which", "which.debianutils"),
        ("gawk", "awk", "gawk"),
        ("vim-tiny", "vim", "vim.tiny"),
    ):
        if pname == name and not os.path.lexists(f"{out}/bin/{link}"):
            os.symlink(target, f"{out}/bin/{link}")


def bundle_certificates(out: str) -> None:
    """One file of all authorities, under the names that programs look for."""
    found = sorted(
        os.path.join(folder, name)
        for folder, _, names in os.walk(f"{out}/share/ca-certificates")
        for name in names
        if name.endswith(".crt")
    )
    certificates = f"{out}/etc/ssl/certs"
    os.makedirs(certificates, exist_ok=True)
    with open(f"{certificates}/ca-bundle.crt", "wb") as bundle:
        for path in found:
            with open(path, "rb") as file:
                bundle.write(file.read())
    os.symlink("ca-bundle.crt", f"{certificates}/ca-certificates.crt")


def refer(out: str, depends: list[str]) -> None:
    """Name what is needed at run time and stands in no file: data, helpers, plugins."""
    if depends:
        os.makedirs(f"{out}/nix-support", exist_ok=True)
        with open(f"{out}/nix-support/propagated-user-env-packages", "w") as file:
            file.write(" ".join(depends) + "\n")


def main() -> None:
    environment = os.environ
    out, pname = environment["out"], environment["pname"]
    paths = environment["depends"].split()
    depends = dict(zip(environment["dependNames"].split(), paths, strict=True))
    os.environ.update(PATH="/usr/bin:/bin", LC_ALL="C")
    os.makedirs(out)
    layout = Layout(out, paths, environment["arch"])
    debs = environment["debs"].split()
    for deb, only in zip(debs, json.loads(environment["only"]), strict=True):
        unpack(layout, deb, only)
    layout.place_links()
    Patcher(out, paths, environment["arch"], is_libc=pname == "libc6").patch_all()
    finish(pname, out)
    wrapped = json.loads(environment["wrapped"])
    if wrapped:
        wrap_programs(out, depends, wrapped)
    refer(out, paths)
    layout.remove_empty_folders()


if __name__ == "__main__":
    main()
