"""Programs of other Debian releases, in root folders of their own."""

import hashlib
import os
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.e2e.packages import KEPT, alone

_SCRIPT = Path(__file__).with_name("debian.sh")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TARGET = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"


@attrs.frozen
class Release:
    """Packages of a release, with all that they depend on.

    :param suite: its name.
    """

    suite: str
    packages: tuple[str, ...]


DEBIAN_13 = Release(
    "trixie",
    ("docker.io", "docker-cli", "docker-buildx", "podman", "skopeo", "buildah", "oras"),
)
DEBIAN_TESTING = Release(
    "forky",
    (
        *("docker.io", "docker-cli", "docker-buildx", "containerd", "crane", "cosign"),
        *("docker-registry", "oras", "skopeo"),
    ),
)
"""What Debian 13 has not yet: containerd 2, Docker 28, crane, cosign; and what goes with that."""


@attrs.frozen
class Root:
    """A root folder with the programs of a release; nothing changes it."""

    path: Path

    def inside(self, folder: Path, *argv: str) -> list[str]:
        """The command that runs another there; needs root.

        :param folder: is there as it is here, to be written to.
        """
        return [str(_SCRIPT), str(self.path), str(folder), *argv]


def make_root(release: Release) -> Root:
    """Make the root folder of a release, unless it is there since an earlier run."""
    words = " ".join((release.suite, *release.packages)).encode()
    path = KEPT / f"debian-{release.suite}-{hashlib.sha256(words).hexdigest()[:12]}"
    with alone(f"debian-{release.suite}"):
        if path.exists():
            return Root(path)
        with tempfile.TemporaryDirectory(dir=KEPT, prefix="debian-") as folder:
            _download(release, Path(folder))
            _unpack(Path(folder))
            os.rename(Path(folder) / "root", path)
    return Root(path)


def _download(release: Release, folder: Path) -> None:
    """Load packages by an apt whose state is in a folder, from where this machine has its own."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    source = f"deb [signed-by={_KEYRING}] {_archive()} {release.suite} main\n"
    (folder / "sources.list").write_text(source)
    options = {
        "Dir::Etc::SourceList": str(folder / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": str(folder / "lists"),
        "Dir::State::Status": str(folder / "status"),
        "Dir::Cache": str(folder / "cache"),
        "APT::Keep-Downloaded-Packages": "true",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    apt = ["apt-get", "-qq", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"])
    install = ["install", "--no-install-recommends", "--download-only", "base-files"]
    _run([*apt, *install, *release.packages])


def _archive() -> str:
    """Where this machine has Debian's packages from."""
    described = Path("/etc/os-release").read_text()
    codename = re.search(r"^VERSION_CODENAME=(\w+)$", described, re.MULTILINE)
    assert codename is not None
    targets = _run(["apt-get", "indextargets", "--format", _TARGET, "Created-By: Packages"])
    wanted = f"Debian {codename[1]} main "
    found = [line.removeprefix(wanted) for line in targets.splitlines() if line.startswith(wanted)]
    assert found, "apt has no source of Debian's packages"
    return found[0]


def _unpack(folder: Path) -> None:
    """Unpack what was loaded; no package is set up."""
    root = folder / "root"
    packages = sorted(folder.glob("cache/archives/*.deb"))
    # The first has the links from /lib to /usr/lib and so on.
    packages.sort(key=lambda path: not path.name.startswith("base-files_"))
    first, *others = packages
    _run(["dpkg-deb", "--extract", str(first), str(root)])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: _run(["dpkg-deb", "--extract", str(path), str(root)]), others))


def _run(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout}{done.stderr}"
    return done.stdout
