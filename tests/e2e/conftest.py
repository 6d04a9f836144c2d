"""The real parts: a package set made of Debian packages, a Nix store, the daemon, clients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.clients import Docker, Podman, engine, podman_storage
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set

StartDaemon = Callable[..., Daemon]
Run = Callable[..., str]


@pytest.fixture(scope="session")
def package_set() -> PackageSet:
    """The tests' package set."""
    return make_package_set()


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A Docker engine."""
    with engine() as docker:
        yield docker


@pytest.fixture
def podman() -> Iterator[Podman]:
    """podman with an empty storage."""
    with podman_storage() as podman:
        yield podman


@pytest.fixture
def start_daemon(package_set: PackageSet, tmp_path: Path) -> Iterator[StartDaemon]:
    """Starts daemons: ``start_daemon(state=FOLDER, packages=PACKAGE_SET, NAME=value…)``."""
    with ExitStack() as stack:

        def start(
            state: Path | None = None,
            packages: PackageSet = package_set,
            before: Sequence[str] = (),
            **environ: str,
        ) -> Daemon:
            where, environment = state or tmp_path / "state", {**packages.environ, **environ}
            return stack.enter_context(running(where, environment, before=before))

        yield start


@pytest.fixture(scope="module")
def daemon(package_set: PackageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that the tests of a module share."""
    with running(tmp_path_factory.mktemp("state"), package_set.environ) as daemon:
        yield daemon


@pytest.fixture
def run(daemon: Daemon, docker: Docker) -> Run:
    """Pulls an image and runs a command in it: ``run(NAME, COMMAND…, options=(…))``."""

    def run(name: str, *command: str, options: tuple[str, ...] = ()) -> str:
        image = f"{daemon.host}/{name}"
        docker.ok("pull", "-q", image)
        return docker.run(image, *command, options=options)

    return run
