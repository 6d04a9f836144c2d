"""Package sets from git repositories and folders of someone else's making."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon

pytestmark = pytest.mark.real_nix

# No nixpkgs, no function even: an attribute set with one derivation.
SET = """
{
  greeting = derivation {
    name = "greeting-VERSION"; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir -p $out/bin; echo VERSION > $out/bin/greeting; exit 0" ];
  };
}
"""


class Repository:
    """A bare repository, and a work tree to push from."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.tree = folder / "bare.git", folder / "tree"
        self._run("init", "-q", "--bare", "-b", "main", str(self.bare))
        self._run("clone", "-q", str(self.bare), str(self.tree))
        self._git("checkout", "-q", "-b", "main")

    def push(self, version: str) -> str:
        (self.tree / "default.nix").write_text(SET.replace("VERSION", version))
        self._git("add", "-A")
        self._git("-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "-m", version)
        self._git("tag", f"v{version}")
        self._git("push", "-q", "origin", "main", f"v{version}")
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments: str) -> str:
        return self._run("-C", str(self.tree), *arguments)

    def _run(self, *arguments: str) -> str:
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(
            ["git", *arguments], check=True, capture_output=True, text=True, env=environ
        )
        return done.stdout.strip()


def test_git_repositories(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A repository's branches, tags and commits are the tags of its images, and a push is seen."""
    repository = Repository(tmp_path)
    first = repository.push("1")
    daemon = start_daemon(
        NIXERY_PKGS_PATH="", NIXERY_PKGS_REPO=f"file://{repository.bare}", NIXERY_REVISION_TTL="0"
    )

    def digest(tag: str) -> str:
        answer = daemon.pull("greeting", tag)
        assert answer.status == 200, answer.body
        return answer.headers["Docker-Content-Digest"]

    before = digest("latest")
    second = repository.push("2")
    after = digest("latest")
    assert before != after
    assert digest("main") == digest(second) == digest("v2") == after
    assert digest(first) == digest("v1") == before
    assert daemon.nix_builds == 2
    unknown = daemon.pull("greeting", "nosuchbranch")
    assert (unknown.status, unknown.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    assert daemon.pull("greeting", "0" * 40).status == 404


def test_unreachable_repositories(start_daemon: StartDaemon) -> None:
    """A repository that can't be read is a 503 that says so, without its credentials."""
    url = "https://user:secret@127.0.0.1:1/x.git"
    daemon = start_daemon(NIXERY_PKGS_PATH="", NIXERY_PKGS_REPO=url)
    answer = daemon.pull("greeting")
    assert answer.status == 503
    assert "127.0.0.1:1/x.git" in answer.reason
    assert "secret" not in answer.body.decode() + daemon.log


def test_an_edited_folder(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Editing a folder is seen at the next pull; other architectures are refused by a set that
    knows of none."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "default.nix").write_text(SET.replace("VERSION", "1"))
    daemon = start_daemon(NIXERY_PKGS_PATH=str(folder))
    before = daemon.pull("greeting").headers["Docker-Content-Digest"]
    (folder / "default.nix").write_text(SET.replace("VERSION", "2"))
    assert daemon.pull("greeting").headers["Docker-Content-Digest"] != before
    assert daemon.pull("arm64/greeting").status == 404


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("{ x = ", "syntax error"),
        ("[ 1 2 ]", "a list"),
        ('throw "this set is closed"', "this set is closed"),
        ("{ missing }: { }", "missing"),
    ],
)
def test_broken_sets(
    start_daemon: StartDaemon, tmp_path: Path, expression: str, words: str
) -> None:
    """A set that is no set, or can't be evaluated, is said to be so."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "default.nix").write_text(expression)
    answer = start_daemon(NIXERY_PKGS_PATH=str(folder)).pull("greeting")
    assert answer.status == 400, answer.body
    assert words in answer.json()["errors"][0]["message"]
