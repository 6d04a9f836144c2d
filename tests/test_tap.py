"""``makeService``, which puts the daemon together for twistd."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nixery.service import RegistryService
from nixery.tap import Options, makeService

TOP = Path(__file__).resolve().parents[1]


@pytest.mark.program
def test_make_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's service is the registry, and making it starts and writes nothing."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    options = Options()
    options.parseOptions(["--listen", "tcp:0:interface=127.0.0.1", "--pkgs-path", str(tmp_path)])
    service = makeService(options)
    assert isinstance(service, RegistryService)
    assert not (tmp_path / "state").exists()


def test_a_start_imports_no_library_in_vain() -> None:
    """Libraries that take time and memory are imported where they are first used: those of Google
    and Amazon for a bucket, those for Markdown and licences for a page or a document."""
    program = "import sys, nixery.tap; print([m for m in sys.modules"
    program += " if m.startswith(('google', 'botocore',"
    program += " 'markdown_it', 'license_expression', 'boolean'))])"
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    output = subprocess.check_output(command, text=True, env=environ)
    # A package that only holds others is made by the interpreter's own start.
    assert output.strip() in ("[]", "['google']")
