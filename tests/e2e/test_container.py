"""The image that the Dockerfile makes: built, and run without privileges."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import Docker, run
from tests.e2e.packages import TOP, PackageSet
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.container, pytest.mark.real_nix, pytest.mark.real_client]

UNPRIVILEGED = ("--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only")
NAMESPACES = ("--security-opt=seccomp=unconfined", "--security-opt=systempaths=unconfined")
NO_SANDBOX = "builds have no sandbox"

StartContainer = Callable[..., str]


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Nixery's image, built from this checkout on what Debian itself says Debian is: no other
    registry need be reached. Packages come from where this machine has them from."""
    folder = tmp_path_factory.mktemp("debian")
    root, archive = folder / "root", folder / "root.tar"
    _ok("debootstrap", "--variant=minbase", "bookworm", str(root))
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc" / "certificates.pem")
    (root / "etc" / "pip.conf").write_text("[global]\ncert = /etc/certificates.pem\n")
    for file in Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copy(file, root / "etc" / "apt" / "apt.conf.d")
    _ok("tar", "--create", "--file", str(archive), "--directory", str(root), ".")
    docker.ok("import", str(archive), "debian:12")
    shutil.rmtree(folder)
    docker.ok("build", "--network=host", "--tag=nixery", str(TOP))
    yield "nixery"
    docker.ok("image", "rm", "--force", "nixery")


def _ok(*argv: str) -> None:
    ran = run(list(argv))
    assert ran.code == 0, ran.output


@pytest.fixture
def start(docker: Docker, image: str, package_set: PackageSet) -> Iterator[StartContainer]:
    """Starts a container named ``nixery``: ``start(OPTION, …)`` says where it listens."""

    def start(*options: str) -> str:
        port = free_port()
        packages = package_set.environ["NIX_CONF_DIR"]
        docker.ok(
            *("run", "--detach", "--name=nixery", "--network=host", "--tmpfs=/tmp", *options),
            f"--volume={packages}:{packages}:ro",
            # What the tests' packages are built with, and others are not.
            f"--volume={shutil.which('patchelf')}:/usr/bin/patchelf:ro",
            f"--env=NIX_CONF_DIR={packages}",
            f"--env=NIXERY_PKGS_PATH={package_set.environ['NIXERY_PKGS_PATH']}",
            f"--env=NIX_PATH={package_set.environ['NIX_PATH']}",
            f"--env=NIXERY_LISTEN=tcp:{port}:interface=127.0.0.1",
            "--health-interval=1s",
            image,
        )
        health = ("inspect", "--format={{.State.Status}} {{.State.Health.Status}}", "nixery")
        # The health check asks where the daemon was told to listen.
        wait_until(lambda: docker.ok(*health).split() == ["running", "healthy"])
        return f"127.0.0.1:{port}"

    yield start
    print(docker("logs", "nixery").output)
    docker.ok("rm", "--force", "--volumes", "nixery")


def test_no_privileges(docker: Docker, start: StartContainer) -> None:
    """A container of an ordinary user, without capabilities, on a file system that is not to be
    written to, makes an image that runs; it ends with exit code 0, and then knows the image."""
    host = start(*UNPRIVILEGED)
    docker.ok("pull", f"{host}/hello")
    assert "Hello, world" in docker.run(f"{host}/hello", "hello")
    fields = docker.ok("exec", "nixery", "cat", "/proc/1/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in fields)}
    assert status["Uid"] == ["1000"] * 4
    assert int(status["CapBnd"][0], 16) == int(status["CapEff"][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert NO_SANDBOX in docker.ok("logs", "nixery")
    assert "inside-1.0" in docker("pull", f"{host}/inside").output
    docker.ok("stop", "--time=60", "nixery")
    assert docker.ok("inspect", "--format={{.State.ExitCode}}", "nixery").strip() == "0"
    docker.ok("start", "nixery")
    wait_until(lambda: docker("pull", f"{host}/hello").code == 0)
    assert docker.ok("logs", "nixery").count("building hello-") == 1


def test_a_sandbox_where_there_may_be_one(docker: Docker, start: StartContainer) -> None:
    """Where a container may make namespaces, Nix builds in its sandbox."""
    host = start(*UNPRIVILEGED, *NAMESPACES)
    assert NO_SANDBOX not in docker.ok("logs", "nixery")
    docker.ok("pull", f"{host}/inside")
