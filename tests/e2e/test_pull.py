"""From a name to a running container, with real clients."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.clients import Docker, Podman, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import STORE, PackageSet

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

PROGRAMS = [
    ("shell/git/htop", ["git", "--version"], "git version"),
    ("shell/git/htop", ["htop", "--version"], "htop"),
    ("hello", ["hello"], "Hello"),
    ("python3", ["python3", "-c", "import ssl, sqlite3; print(ssl.OPENSSL_VERSION)"], "OpenSSL"),
    ("curl", ["curl", "--version"], "curl"),
    ("shell/jq", ["sh", "-c", "echo '[1]' | jq -c ."], "[1]"),
    ("haskellpackages.shellcheck", ["shellcheck", "--version"], "ShellCheck"),
    ("7zz", ["7zz"], "7-Zip"),
]


@pytest.mark.parametrize(("name", "command", "expected"), PROGRAMS)
def test_programs_run(
    daemon: Daemon, docker: Docker, name: str, command: list[str], expected: str
) -> None:
    """A program of a named package runs in a container of the image."""
    image = f"{daemon.host}/{name}"
    docker.ok("pull", image)
    assert expected in docker.run(image, *command)


def test_unprivileged_users(daemon: Daemon, docker: Docker) -> None:
    """Any user can write to /tmp, and user names are known."""
    image = f"{daemon.host}/shell"
    docker.ok("pull", image)
    script = "echo written > /tmp/x && cat /tmp/x && id root && id && stat -c %a /tmp /var/tmp"
    output = docker.run(image, "sh", "-c", script, options=("--user", "1000"))
    assert "written" in output
    assert "uid=0(root) gid=0(root)" in output
    assert "uid=1000" in output
    assert output.count("1777") == 2


def test_shell_is_the_default_command(daemon: Daemon, docker: Docker) -> None:
    """An image with a shell starts it when no command is given."""
    image = f"{daemon.host}/shell"
    docker.ok("pull", image)
    config = json.loads(docker.ok("inspect", image))[0]["Config"]
    assert config["Cmd"] == ["bash"]
    assert "/bin" in next(e for e in config["Env"] if e.startswith("PATH="))
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" in config["Env"]


def test_pull_by_digest(daemon: Daemon, docker: Docker) -> None:
    """What a tag gave can be pulled by its digest."""
    digest = daemon.pull("hello").headers["Docker-Content-Digest"]
    output = docker.ok("pull", f"{daemon.host}/hello@{digest}")
    assert f"Digest: {digest}" in output


def test_podman_pulls_the_same(daemon: Daemon, podman: Podman) -> None:
    """podman takes the image, with the digest that the registry gave."""
    digest = daemon.pull("shell/git/htop").headers["Docker-Content-Digest"]
    image = f"{daemon.host}/shell/git/htop"
    podman.ok("pull", "--tls-verify=false", image)
    assert digest in podman.ok("inspect", image)


def test_skopeo_copies_and_inspects(daemon: Daemon, tmp_path: Path) -> None:
    """skopeo inspects the image, and copies it with its manifest unchanged."""
    digest = daemon.pull("shell/git/htop").headers["Docker-Content-Digest"]
    image = f"docker://{daemon.host}/shell/git/htop"
    inspected = run(["skopeo", "inspect", "--tls-verify=false", image])
    assert inspected.code == 0, inspected.output
    facts = json.loads(inspected.output)
    assert facts["Digest"] == digest
    assert facts["RepoTags"] == ["latest"]
    target = f"dir:{tmp_path}/copy"
    copied = run(
        [*("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests"), image, target]
    )
    assert copied.code == 0, copied.output


def test_arm64_images_hold_arm64_programs(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    """``arm64/hello`` says it is for arm64, and its program is an aarch64 ELF file."""
    image = f"{daemon.host}/arm64/hello"
    docker.ok("pull", "--platform=linux/arm64", image)
    assert json.loads(docker.ok("inspect", image))[0]["Architecture"] == "arm64"
    container = docker.ok("create", "--platform=linux/arm64", image, "hello").split()[-1]
    docker.ok("cp", "--follow-link", f"{container}:/bin/hello", str(tmp_path / "hello"))
    docker.ok("rm", container)
    header = (tmp_path / "hello").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64


def test_architectures_are_not_mixed_up(daemon: Daemon) -> None:
    """The image of one architecture is never served for the other."""
    arm64 = daemon.pull("arm64/hello")
    amd64 = daemon.pull("hello")
    assert arm64.status == amd64.status == 200
    assert arm64.headers["Docker-Content-Digest"] != amd64.headers["Docker-Content-Digest"]


def test_extracted_layers_equal_the_store(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    """A container's store paths hold what the Nix store holds, odd names and all."""
    image = f"{daemon.host}/oddnames"
    docker.ok("pull", image)
    container = docker.ok("create", image, "none").strip()
    with (tmp_path / "export.tar").open("wb"):
        docker.ok("export", "-o", str(tmp_path / "export.tar"), container)
    docker.ok("rm", container)
    tree = tmp_path / "tree"
    tree.mkdir()
    extracted = run(["tar", "-xf", str(tmp_path / "export.tar"), "-C", str(tree), "nix"])
    assert extracted.code == 0, extracted.output
    path = next((tree / "nix" / "store").glob("*-odd-names-*"))
    store = STORE / "nix" / "store" / path.name
    same = run(["diff", "--recursive", "--no-dereference", str(store), str(path)])
    assert same.code == 0, same.output
    shutil.rmtree(tree, ignore_errors=True)


def test_podman_extracts_the_same(daemon: Daemon, podman: Podman) -> None:
    """podman's copy of a store path holds what the Nix store holds, modes and all."""
    image = f"{daemon.host}/oddnames"
    podman.ok("pull", "--tls-verify=false", image)
    mounted = Path(podman.ok("image", "mount", image).strip())
    path = next((mounted / "nix" / "store").glob("*-odd-names-*"))
    store = STORE / "nix" / "store" / path.name
    same = run(["diff", "--recursive", "--no-dereference", str(store), str(path)])
    assert same.code == 0, same.output
    assert _modes(path) == _modes(store)


def _modes(top: Path) -> dict[str, int]:
    return {str(path.relative_to(top)): path.lstat().st_mode for path in top.rglob("*")}


@pytest.mark.parametrize("compression", ["fast", "small", "zstd"])
def test_every_compression_is_taken(
    start_daemon: StartDaemon, podman: Podman, tmp_path: Path, compression: str
) -> None:
    """podman and skopeo take layers of every compression."""
    daemon = start_daemon(NIXERY_COMPRESSION=compression)
    image = f"{daemon.host}/hello"
    copy = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{image}"]
    copied = run([*copy, f"oci:{tmp_path}/copy:latest"])
    assert copied.code == 0, copied.output
    podman.ok("pull", "--tls-verify=false", image)


@pytest.mark.parametrize("compression", ["fast", "small"])
def test_docker_takes_gzip(start_daemon: StartDaemon, docker: Docker, compression: str) -> None:
    """docker runs images of both gzip compressions."""
    daemon = start_daemon(NIXERY_COMPRESSION=compression)
    docker.ok("pull", f"{daemon.host}/hello")
    assert "Hello" in docker.run(f"{daemon.host}/hello", "hello")


def test_official_names(daemon: Daemon) -> None:
    """What some clients put before every single name changes nothing: manifest by tag and digest,
    blobs and tags are the same below it."""
    plain, official = daemon.pull("hello"), daemon.pull("library/hello")
    assert official.status == 200
    digest = plain.headers["Docker-Content-Digest"]
    assert official.headers["Docker-Content-Digest"] == digest
    assert daemon.get(f"/v2/library/hello/manifests/{digest}").body == plain.body
    config = plain.json()["config"]["digest"]
    blobs = [daemon.get(f"/v2/{name}/blobs/{config}").body for name in ("library/hello", "hello")]
    assert blobs[0] == blobs[1] != b""
    assert daemon.get("/v2/library/hello/tags/list").json()["tags"] == ["latest"]
    assert daemon.pull("library/nosuchthing").status == 404
    assert "'nosuchthing'" in daemon.pull("library/nosuchthing").reason


def test_a_package_named_library(package_set: PackageSet, start_daemon: StartDaemon) -> None:
    """Where the set has a package of that name, it is one like every other."""
    folder = package_set.folder.parent / "slow-library"
    folder.mkdir(exist_ok=True)
    (folder / "default.nix").write_text(
        "{ system ? builtins.currentSystem }:\n"
        "let set = import ../test-pkgs { inherit system; }; in set // { library = set.jq; }\n"
    )
    daemon = start_daemon(NIXERY_PKGS_PATH=str(folder))
    both = daemon.pull("library/hello")
    assert both.status == 200
    assert both.body == daemon.pull("hello/library").body
    assert both.body not in (daemon.pull("hello").body, daemon.pull("library").body)
