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
    """Tells the versions of some libraries; there are no others."""

    def version_of(name: str) -> str:
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    return version_of


def test_this_installation() -> None:
    """What the tests run with is what is asked for."""
    assert faults() == []


def test_what_is_missing_or_of_another_version() -> None:
    """Each library is named that is missing, too old, or not the one version that will do, with a
    command that helps; what only tests need is not asked for."""
    required = ["a>=1.2", "b>=2", "c==1.0", "d>=1", 'e>=1; extra == "test"', "f[x]>=1"]
    found = faults(required, versions(a="1.10", b="1.9", c="1.1", f="2.0rc1"))
    assert found == [
        "the library b is of version 1.9, and b>=2 is needed; pip install 'b>=2'",
        "the library c is of version 1.1, and c==1.0 is needed; pip install 'c==1.0'",
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
    """Where Nixery itself is not installed, nobody is sent to what has that name elsewhere."""
    script = (
        "from importlib import metadata\n"
        "def requires(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.requires = requires\nimport nixery.plugin"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = "nixery: the library nixery is missing; pip install the checkout it is in\n"
    assert (ran.returncode, ran.stderr) == (1, said)


def test_before_anything_is_imported() -> None:
    """A library that is missing ends the start in one line, whatever it is that would import
    it."""
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
