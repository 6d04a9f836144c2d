"""Puts the Nix expressions and the documentation into the package; all else about it is in
pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# These install Nixery itself, from a checkout.
OURSELVES = ["package.nix", "container.nix", "module.nix"]


class BuildWithFolders(build_py):
    """Copies nix/ and docs/ into the package: a wheel has nothing beside its packages."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "nixery" / "expressions"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("nix", target, ignore=shutil.ignore_patterns("__pycache__", *OURSELVES))
            documentation = Path(self.build_lib) / "nixery" / "documentation"
            documentation.mkdir(exist_ok=True)
            for document in Path("docs").glob("*.md"):
                shutil.copy(document, documentation)


setup(cmdclass={"build_py": BuildWithFolders})
