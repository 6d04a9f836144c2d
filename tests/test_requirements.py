"""The check of installed libraries, and the version."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from nixery.requirements import faults, version

TOP = Path(__file__).resolve().parents[1]


def versions(**known: str) -> Callable[[str], str]:
    """A function that returns the versions of these libraries; no others are installed."""

    def version_of(name: str) -> str:
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    return version_of


def test_this_installation() -> None:
    """The libraries that the tests run with are the required ones."""
    assert faults() == []


def test_what_is_missing_or_of_another_version() -> None:
    """Each library is named that is missing, too old, or not the exact version required, with a
    command that helps; libraries for tests alone are not required."""
    required = ["a>=1.2", "b>=2", "c==1.0", "d>=1", 'e>=1; extra == "test"', "f[x]>=1"]
    found = faults(required, versions(a="1.10", b="1.9", c="1.1", f="2.0rc1"))
    assert found == [
        "the library b has version 1.9, but b>=2 is required; pip install 'b>=2'",
        "the library c has version 1.1, but c==1.0 is required; pip install 'c==1.0'",
        "the library d is missing; pip install 'd>=1'",
    ]


def test_one_version() -> None:
    """The version is that of pyproject.toml; the changelog has an entry for it, and the manifests
    for Kubernetes run it."""
    assert (
        version()
        == tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    )
    assert f"\n## {version()} (" in (TOP / "CHANGELOG.md").read_text("utf-8")
    manifests = list((TOP / "deploy" / "kubernetes").glob("*.yaml"))
    assert manifests
    for path in manifests:
        assert re.findall(r"image: \S+/nixery:(\S+)", path.read_text("utf-8")) == [version()]


def test_a_checkout_that_is_not_installed() -> None:
    """Where Nixery itself is not installed, the message does not lead to another package of its
    name."""
    script = (
        "from importlib import metadata\n"
        "def requires(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.requires = requires\nimport nixery.plugin"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = "nixery: nixery is not installed; run 'pip install .' in its checkout\n"
    assert (ran.returncode, ran.stderr) == (1, said)


def test_before_anything_is_imported() -> None:
    """A missing library ends the start with one line, whichever module would import it."""
    for name in ("packaging", "attrs", "klein"):
        script = f"import sys; sys.modules[{name!r}] = None\nimport nixery.plugin"
        if name != "packaging":
            script = (
                "from importlib import metadata; real = metadata.version\n"
                "def version(name):\n"
                f"    if name == {name!r}: raise metadata.PackageNotFoundError(name)\n"
                "    return real(name)\n"
                "metadata.version = version\nimport nixery.plugin"
            )
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert ran.returncode == 1
        (line,) = ran.stderr.splitlines()
        assert line.startswith(f"nixery: the library {name} is missing; pip install '{name}")
