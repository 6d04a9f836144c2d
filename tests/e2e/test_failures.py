"""What people read when a pull fails, in their client's own output."""

import re
from pathlib import Path

import pytest

from tests.e2e.clients import Docker, Podman, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import STORE, PackageSet
from tests.waiting import wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

EXPLAINED = [
    ("nosuchpkg", ["'nosuchpkg'", "no package"]),
    ("helo", ["did you mean", "hello"]),
    ("haskellpackages.shelcheck", ["haskellpackages.shellcheck"]),
    ("notaderivation", ["not a package but a string"]),
    ("afunction", ["not a package but a function"]),
    ("haskellpackages", ["not a package", "haskellpackages.shellcheck"]),
    ("ambiguouspkg", ["ambiguous", "ambiguouspkg--10 for ambiguousPkg"]),
    ("brokeneval", ["is marked as broken, refusing to evaluate"]),
    ("unfreeeval", ["has an unfree license"]),
    ("aborteval", ["evaluat"]),
    ("infiniterecursion", ["infinite recursion"]),
    ("broken", ["broken-1.0", "exit code 2", "frobnicate"]),
    ("dependsonbroken", ["broken-1.0", "frobnicate"]),
    ("git/shell", ["'shell'", "must come before packages"]),
    ("wronghash", ["hash mismatch: specified: sha256-AAAA", "got: sha256-"]),
    ("othersystem", ["other-system-1.0", "riscv64-linux", "x86_64-linux"]),
    ("nooutput", ["no-output-1.0 failed to build", "produce output path"]),
    ("missingfile", ["evaluated: missingfile", "…/notes.txt"]),
    ("lonelylibrary", ["evaluated: lonelylibrary", "another Python"]),
]
FAILED = ["nosuchpkg", "brokeneval", "broken", "wronghash", "ambiguouspkg", "git/shell"]


@pytest.mark.parametrize(("name", "words"), EXPLAINED)
def test_docker_says_why(daemon: Daemon, docker: Docker, name: str, words: list[str]) -> None:
    """``docker pull`` prints what was wrong."""
    ran = docker("pull", f"{daemon.host}/{name}")
    assert ran.code != 0
    for word in words:
        assert word in ran.output, ran.output


@pytest.mark.parametrize(("name", "words"), [EXPLAINED[0], EXPLAINED[7], EXPLAINED[11]])
def test_skopeo_says_why(daemon: Daemon, name: str, words: list[str]) -> None:
    """skopeo prints what was wrong."""
    ran = run(["skopeo", "inspect", "--tls-verify=false", f"docker://{daemon.host}/{name}"])
    assert ran.code != 0
    for word in words:
        assert word in ran.output, ran.output


@pytest.mark.parametrize("name", FAILED)
def test_podman_asks_once(daemon: Daemon, podman: Podman, name: str) -> None:
    """podman asks for an image that can't be made once, and prints why once."""
    asked = f" {name}:latest for "
    before = daemon.log.count(asked)
    why = _first_sentence(daemon.pull(name).json()["errors"][0]["message"])
    wait_until(lambda: daemon.log.count(asked) == before + 1)
    ran = podman("pull", "--tls-verify=false", f"{daemon.host}/{name}")
    assert ran.code != 0
    assert ran.output.count(why) == 1, ran.output
    wait_until(lambda: daemon.log.count(asked) > before + 1)
    assert daemon.log.count(asked) == before + 2


def _first_sentence(message: str) -> str:
    """A message without an address and the end of a log."""
    return re.split(r";? see http|\n", message)[0]


@pytest.mark.parametrize("name", [name for name in FAILED if name != "git/shell"])
def test_containerd_says_why_and_where(daemon: Daemon, docker: Docker, name: str) -> None:
    """containerd prints the cause, and the whole address of the build's page."""
    ran = docker.ctr("images", "pull", "--plain-http", f"{daemon.host}/{name}:latest")
    assert ran.code != 0
    cause = daemon.get(f"/v2/{name}/manifests/latest").reason
    assert _first_sentence(cause) in ran.output, ran.output
    assert re.search(rf"see http://{daemon.host}/builds/[0-9a-f]+\b", ran.output), ran.output


@pytest.mark.parametrize("pages", ["off", "all"])
@pytest.mark.parametrize("name", ["missingfile", "brokeneval", "nooutput", "infiniterecursion"])
def test_what_is_nobodys_business(
    start_daemon: StartDaemon, package_set: PackageSet, name: str, pages: str
) -> None:
    """No trace, source line or path of the machine is in an answer, or at an endpoint that anybody
    may ask; the daemon's log has all."""
    daemon = start_daemon(NIXERY_PAGES=pages)
    answer = daemon.pull(name)
    assert answer.status == 400
    texts = [answer.body.decode(), str(answer.headers)]
    for head in daemon.get("/builds").json() if pages == "all" else []:
        for path in ("", "/events", "/log"):
            texts.append(daemon.get(f"/builds/{head['id']}{path}").body.decode())
        texts.append(daemon.get(f"/builds/{head['id']}", Accept="text/html").body.decode())
    for text in texts:
        for private in (str(package_set.folder), str(STORE), "/srv/nowhere", "default.nix"):
            assert private not in text
    assert "Nix in full: " in daemon.log
    if name == "missingfile":
        assert "/srv/nowhere/notes.txt" in daemon.log
        assert "default.nix:" in daemon.log


def test_traces_for_everybody(start_daemon: StartDaemon) -> None:
    """Where the operator wants it, the whole trace is told."""
    daemon = start_daemon(NIXERY_TRACES="on")
    assert "default.nix" in daemon.pull("missingfile").json()["errors"][0]["detail"]["trace"]


def test_a_builder_that_never_ends(start_daemon: StartDaemon, docker: Docker) -> None:
    """A builder that never ends is stopped after NIX_TIMEOUT seconds, and that is said."""
    for seconds in (3, 30, 300):
        daemon = start_daemon(NIX_TIMEOUT=str(seconds))
        ran = docker("pull", f"{daemon.host}/timeout")
        assert ran.code != 0
        if "timeout-1.0" in ran.output:
            break  # otherwise a busy machine did not even come to an end with evaluating
        daemon.stop()
    assert f"timeout-1.0 did not finish within {seconds} s" in ran.output


def test_a_builder_that_prints_much(daemon: Daemon, docker: Docker) -> None:
    """A package that prints 10 MB while it builds is built."""
    docker.ok("pull", f"{daemon.host}/noisy")


def test_a_failure_is_no_image(daemon: Daemon) -> None:
    """After a failure, the same name is tried again rather than remembered as an image."""
    for _ in range(2):
        answer = daemon.pull("broken")
        assert 400 <= answer.status < 500
        assert "broken-1.0" in answer.reason


def test_unknown_tags(daemon: Daemon, docker: Docker) -> None:
    """A folder has one revision: another tag is not found, and the answer says so."""
    ran = docker("pull", f"{daemon.host}/hello:nosuchtag")
    assert ran.code != 0
    assert "nosuchtag" in ran.output


def test_hostile_text_reaches_no_terminal(daemon: Daemon) -> None:
    """No escape sequence of a package's text is in an error message."""
    message = daemon.pull("hostiletext").body
    assert b"\\u001b" not in message
    assert b"\x1b" not in message


def test_full_storage(start_daemon: StartDaemon, tmp_path: Path, docker: Docker) -> None:
    """A full storage is said to be full, nothing is left behind, and room makes it work again."""
    small = tmp_path / "small"
    small.mkdir()
    assert run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]).code == 0
    try:
        daemon = start_daemon(STORAGE_PATH=str(small / "storage"))
        answer = daemon.pull("git")
        assert answer.status == 503
        assert "full" in answer.reason
        assert "full" in answer.json()["errors"][0]["message"]
        assert int(answer.headers["Retry-After"]) > 0
        ran = docker("pull", f"{daemon.host}/git")
        assert "full" in ran.output
        assert not [path for path in (small / "storage" / "staging").rglob("*") if path.is_file()]
        assert run(["mount", "-o", "remount,size=300m", str(small)]).code == 0
        assert daemon.pull("git").status == 200
        daemon.stop()
    finally:
        run(["umount", str(small)])
