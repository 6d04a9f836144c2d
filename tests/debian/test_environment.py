"""Interpreters that find libraries."""

import os
import subprocess
from pathlib import Path

from environment import link_all, tell, with_dependencies


def package(folder: Path, name: str, *needs: Path) -> Path:
    path = folder / name
    (path / "nix-support").mkdir(parents=True)
    text = " ".join(map(str, needs))
    (path / "nix-support" / "propagated-user-env-packages").write_text(text)
    return path


def test_libraries_bring_what_they_depend_on(tmp_path: Path) -> None:
    """Each package comes once, those that were named first."""
    deep = package(tmp_path, "deep")
    one = package(tmp_path, "one", deep)
    two = package(tmp_path, "two", deep, one)
    found = list(with_dependencies([str(two), str(one)]))
    assert found == [str(two), str(deep), str(one)]


def test_programs_are_told_where_libraries_are(tmp_path: Path) -> None:
    """A program sees the libraries' places behind what the user has in the variable; all else is
    the interpreter's own."""
    base, out = tmp_path / "base", tmp_path / "out"
    (base / "bin").mkdir(parents=True)
    (base / "lib").mkdir()
    for name in ("python3", "pydoc3"):
        (base / "bin" / name).write_text('#!/bin/sh\necho "$V $1"\n')
        (base / "bin" / name).chmod(0o755)
    out.mkdir()
    link_all(str(base), str(out))
    bash = tmp_path / "bash"
    (bash / "bin").mkdir(parents=True)
    (bash / "bin" / "bash").symlink_to("/bin/bash")
    tell(str(out), str(base), "python3", str(bash), "V", ["/a", "/b"])
    assert os.readlink(out / "lib") == str(base / "lib")
    assert os.readlink(out / "bin" / "pydoc3") == str(base / "bin" / "pydoc3")
    for mine, seen in ((None, "/a:/b"), ("/mine", "/mine:/a:/b")):
        environ = {} if mine is None else {"V": mine}
        ran = subprocess.run(
            [out / "bin" / "python3", "x y"], env=environ, capture_output=True, check=True
        )
        assert ran.stdout.decode() == f"{seen} x y\n"
