"""The environment of our own children."""

import subprocess
import sys
from pathlib import Path

import pytest

from nixery.child_python import module_paths


def test_modules_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child in another folder finds the modules that we find, also by a relative path, and has no
    more of our environment than it needs for that."""
    (tmp_path / "found_by_a_child.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [".", *sys.path])
    monkeypatch.setenv("LD_LIBRARY_PATH", "/some/libraries")
    monkeypatch.setenv("SECRET", "secret")
    environment = module_paths()
    assert set(environment) == {"PYTHONPATH", "LD_LIBRARY_PATH"}
    assert environment["LD_LIBRARY_PATH"] == "/some/libraries"
    command = [sys.executable, "-P", "-c", "import found_by_a_child, nixery.packing.worker"]
    subprocess.run(command, cwd="/", env=environment, check=True)
