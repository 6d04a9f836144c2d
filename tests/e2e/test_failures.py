"""What people read when a pull fails, in their client's own output."""

from pathlib import Path

import pytest

from tests.e2e.clients import Docker, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon

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
    ("git/shell", ["'shell'", "before the packages"]),
]


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


def test_a_builder_that_never_ends(start_daemon: StartDaemon, docker: Docker) -> None:
    """A builder that never ends is stopped after NIX_TIMEOUT seconds, and that is said."""
    daemon = start_daemon(NIX_TIMEOUT="3")
    ran = docker("pull", f"{daemon.host}/timeout")
    assert ran.code != 0
    assert "timeout-1.0 did not finish within 3 s" in ran.output


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
