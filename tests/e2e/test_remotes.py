"""git repositories as package sources: over files, HTTP and SSH, and what befalls them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.git_servers import GitHttp, git_over_http, git_over_ssh
from tests.e2e.test_sources import SET, digest, start
from tests.repository import Repository
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix


class Remote:
    """A bare repository, reached in one of three ways, and a work tree to push from."""

    def __init__(self, folder: Path, way: str, stack: ExitStack) -> None:
        self.tree = Repository(folder / "tree")
        self.bare = folder / "bare.git"
        self.tree.git("clone", "-q", "--bare", str(self.tree.folder), str(self.bare))
        self.environ: dict[str, str] = {}
        self.url = f"file://{self.bare}"
        if way == "http":
            self.url = stack.enter_context(git_over_http(folder)).url("bare.git")
        if way == "ssh":
            (folder / "ssh").mkdir()
            server = stack.enter_context(git_over_ssh(folder / "ssh"))
            self.url = server.url(self.bare)
            self.environ = {"GIT_SSH_COMMAND": server.command}

    def push(self, version: str) -> str:
        commit = self.tree.commit(SET.replace("VERSION", version))
        self.tree.git("tag", f"v{version}")
        self.tree.git("tag", "-a", f"annotated{version}", "-m", "x")
        self.mirror()
        return commit

    def mirror(self) -> None:
        """Have the bare repository be as the work tree's."""
        self.tree.git("push", "-q", "--mirror", str(self.bare))

    def vanish(self) -> None:
        self.bare.rename(self.bare.with_suffix(".away"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["file", "http", "ssh"])
def remote(request: Any, tmp_path: Path, stack: ExitStack) -> Remote:
    (tmp_path / "remote").mkdir()
    return Remote(tmp_path / "remote", request.param, stack)


@pytest.fixture
def over_http(tmp_path: Path, stack: ExitStack) -> GitHttp:
    """A server of one repository, ``tree/.git``, whose ``greeting`` can be pulled."""
    Repository(tmp_path / "tree").commit(SET)
    return stack.enter_context(git_over_http(tmp_path))


def start_on(start_daemon: StartDaemon, remote: Remote, **environ: str) -> Daemon:
    settings = {"NIXERY_PKGS_PATH": "", "NIXERY_PKGS_REPO": remote.url}
    return start_daemon(**settings, **remote.environ, **environ)


def test_every_kind_of_tag(start_daemon: StartDaemon, remote: Remote) -> None:
    """A repository's branches, tags and commits are the tags of its images; what was named before
    is served from memory, without a process."""
    first, second = remote.push("1"), remote.push("2")
    daemon = start_on(start_daemon, remote, NIXERY_REVISION_TTL="600")
    revisions = {
        **dict.fromkeys(("latest", "main", "v2", "annotated2", second), second),
        **dict.fromkeys(("v1", "annotated1", first), first),
    }
    digests = set()
    for tag, revision in revisions.items():
        answer = daemon.pull("greeting", tag)
        digests.add((revision, digest(answer)))
        assert answer.headers["Nixery-Revision"] == revision
        assert "Nixery-Stale" not in answer.headers
    assert len(digests) == 2
    assert daemon.nix_builds == 2
    runs = daemon.git_runs()
    for tag in revisions:
        assert daemon.pull("greeting", tag).status == 200
    assert (daemon.nix_builds, daemon.git_runs()) == (2, runs)
    for unknown in ("nosuchbranch", "0" * 40):
        answer = daemon.pull("greeting", unknown)
        assert (answer.status, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    listed = daemon.get("/v2/greeting/tags/list?n=3")
    assert listed.json()["tags"] == ["annotated1", "annotated2", "latest"]
    more = daemon.get(listed.headers["Link"].partition(">")[0][1:])
    assert more.json()["tags"] == ["main", "v1", "v2"]


def test_a_push_and_a_remote_that_is_gone(start_daemon: StartDaemon, remote: Remote) -> None:
    """A push is seen when its time has come; when the remote is gone, what it was last is served,
    and said to be stale, after a restart as well; nobody can pull what it did not have."""
    remote.push("1")
    daemon = start_on(start_daemon, remote, NIXERY_REVISION_TTL="1")
    before = digest(daemon.pull("greeting"))
    second = remote.push("2")
    wait_until(lambda: digest(daemon.pull("greeting")) != before)
    remote.vanish()
    wait_until(lambda: "Nixery-Stale" in daemon.pull("greeting").headers)
    stale = daemon.pull("greeting")
    assert stale.headers["Nixery-Revision"] == second
    assert stale.headers["Nixery-Stale"] == "true"
    assert daemon.pull("greeting", "main").headers["Nixery-Stale"] == "true"
    assert daemon.pull("greeting", "nosuch").status == 503
    assert daemon.pull("greeting", second).status == 200
    assert daemon.stop() is not None
    restarted = start_on(start_daemon, remote)
    again = restarted.pull("greeting")
    assert (digest(again), again.headers["Nixery-Stale"]) == (digest(stale), "true")
    strict = start_on(start_daemon, remote, NIXERY_STALE_IF_ERROR="off")
    assert strict.pull("greeting").status == 503


def test_moved_and_deleted_names(start_daemon: StartDaemon, remote: Remote) -> None:
    """A branch that was forced back is what it was forced to, a deleted tag is unknown, and so is
    the commit that they stood for; what was pulled of it is there by its digest."""
    first, second = remote.push("1"), remote.push("2")
    daemon = start_on(start_daemon, remote, NIXERY_REVISION_TTL="0")
    newest = digest(daemon.pull("greeting"))
    assert digest(daemon.pull("greeting", "v2")) == newest
    remote.tree.git("reset", "-q", "--hard", first)
    remote.tree.git("tag", "-d", "v2", "annotated2")
    remote.mirror()
    moved = daemon.pull("greeting", "main")
    assert moved.headers["Nixery-Revision"] == first
    assert digest(moved) != newest
    for tag in ("v2", second):
        assert daemon.pull("greeting", tag).status == 404
    assert digest(daemon.get(f"/v2/greeting/manifests/{newest}")) == newest


def test_commits_of_others(start_daemon: StartDaemon, remote: Remote) -> None:
    """Commits that only a pull request has, or that no ref has, are not built, though the server
    hands them out; where the operator says so, they are."""
    first = remote.push("1")
    theirs = remote.push("theirs")
    remote.tree.git("update-ref", "refs/pull/1/head", theirs)
    remote.tree.git("reset", "-q", "--hard", first)
    remote.tree.git("tag", "-d", "vtheirs", "annotatedtheirs")
    remote.push("2")
    daemon = start_on(start_daemon, remote)
    assert daemon.pull("greeting", first).headers["Nixery-Revision"] == first
    builds = daemon.nix_builds
    for tag in (theirs, "0" * 40):
        answer = daemon.pull("greeting", tag)
        assert (answer.status, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
        assert "not in the history of any branch or tag" in answer.reason
    assert daemon.nix_builds == builds
    opened = start_on(start_daemon, remote, NIXERY_UNREACHABLE_COMMITS="on")
    assert opened.pull("greeting", theirs).headers["Nixery-Revision"] == theirs


def test_repositories_with_sha256(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A repository whose objects are named by SHA-256 is served by branches, tags and commits."""
    repository = Repository(tmp_path / "tree", "sha256")
    first = repository.commit(SET.replace("VERSION", "1"))
    repository.git("tag", "-a", "v1", "-m", "x")
    second = repository.commit(SET.replace("VERSION", "2"))
    daemon = start(start_daemon, NIXERY_PKGS_REPO=repository.url)
    for tag, revision in {"latest": second, "v1": first, first: first}.items():
        assert daemon.pull("greeting", tag).headers["Nixery-Revision"] == revision
    assert len(first) == 64
    assert daemon.get("/v2/greeting/tags/list").json()["tags"] == ["latest", "main", "v1"]
    folder = start_daemon(NIXERY_PKGS_PATH=str(repository.folder))
    assert folder.pull("greeting").headers["Nixery-Revision"] == second


BAD_TAGS = {
    "--upload-pack=x": 400,
    "-x": 400,
    "HEAD~1": 400,
    "HEAD^": 400,
    "refs/pull/1/head": 404,
    "master@%7B1%7D": 400,
    "a..b": 404,
    "..": 400,
    "x" * 200: 400,
    "%00": 400,
    "main%0A": 400,
    "sha256": 404,
    "HEAD": 404,
}


def test_bad_tags(start_daemon: StartDaemon, tmp_path: Path, stack: ExitStack) -> None:
    """What is no tag is refused before a process is started; no tag is an option or a revision
    expression of git."""
    remote = Remote(tmp_path / "remote", "file", stack)
    remote.push("1")
    daemon = start_on(start_daemon, remote)
    mark = tmp_path / "mark"
    for tag, status in {**BAD_TAGS, f"--upload-pack=touch%20{mark}": 404}.items():
        before = daemon.git_runs()
        answer = daemon.get(f"/v2/greeting/manifests/{tag}")
        assert answer.status == status, (tag, answer.body)
        if status == 400:
            assert daemon.git_runs() == before, tag
    assert not mark.exists()
    assert daemon.nix_builds == 0


def test_credentials(start_daemon: StartDaemon, over_http: GitHttp) -> None:
    """The credentials of a URL open what they are for, and are shown nowhere; wrong ones are said
    to be."""
    over_http.want_credentials()
    daemon = start(start_daemon, NIXERY_PKGS_REPO=over_http.url("tree/.git", "user:secret@"))
    answer = daemon.pull("greeting")
    assert answer.status == 200, answer.body
    assert answer.headers["Nixery-Source"] == f"git:{over_http.url('tree/.git')}"
    wrong = start(start_daemon, NIXERY_PKGS_REPO=over_http.url("tree/.git", "user:wrongsecret@"))
    refused = wrong.pull("greeting")
    assert refused.status == 503
    assert "Authentication failed" in refused.json()["errors"][0]["message"]
    shown = [str(a.headers) + a.body.decode() for a in (answer, refused, daemon.get("/"))]
    assert "secret" not in "".join([*shown, daemon.log, wrong.log])


def test_unreachable_repositories(start_daemon: StartDaemon) -> None:
    """A repository that can't be reached is a 503 that says so, without its credentials."""
    url = "https://user:secret@127.0.0.1:1/x.git"
    daemon = start(start_daemon, NIXERY_PKGS_REPO=url)
    answer = daemon.pull("greeting")
    assert answer.status == 503
    assert "127.0.0.1:1/x.git" in answer.reason
    assert "secret" not in answer.body.decode() + daemon.log


def test_a_server_that_hangs_or_redirects(start_daemon: StartDaemon, over_http: GitHttp) -> None:
    """While a server hangs, or redirects without end, what is known is served, and the daemon
    answers."""
    daemon = start(
        start_daemon, NIXERY_PKGS_REPO=over_http.url("tree/.git"), NIXERY_REVISION_TTL="1"
    )
    known = daemon.pull("greeting")
    commit = known.headers["Nixery-Revision"]
    over_http.turn("redirect")
    wait_until(lambda: daemon.pull("greeting").headers.get("Nixery-Stale") == "true")
    over_http.turn("hang")
    for number in range(20):
        daemon.leave(f"/v2/greeting/manifests/branch{number}")
    assert digest(daemon.pull("greeting", commit)) == digest(known)
    assert daemon.get("/v2/").status == 200
    stale = daemon.pull("greeting")
    assert (digest(stale), stale.headers["Nixery-Stale"]) == (digest(known), "true")


@pytest.mark.real_client
def test_what_docker_prints(
    start_daemon: StartDaemon, docker: Docker, tmp_path: Path, stack: ExitStack
) -> None:
    """docker pulls from a repository by branch and commit, and prints why it can't."""
    remote = Remote(tmp_path / "remote", "file", stack)
    commit = remote.push("1")
    daemon = start_on(start_daemon, remote, NIXERY_REVISION_TTL="0")
    for tag in ("main", commit):
        assert "Status: " in docker.ok("pull", f"{daemon.host}/greeting:{tag}")
    unknown = docker("pull", f"{daemon.host}/greeting:nosuch")
    assert unknown.code != 0
    assert "there is no revision 'nosuch'" in unknown.output
    remote.vanish()
    gone = docker("pull", f"{daemon.host}/greeting:other")
    assert gone.code != 0
    assert "can't be read" in gone.output
