"""Package sources of someone else's making: folders, flakes, channels, and broken ones."""

import json
import subprocess
from calendar import timegm
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Answer, Daemon
from tests.e2e.git_servers import git_over_http
from tests.e2e.packages import PackageSet
from tests.repository import Repository

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
# What it is told, it says; and it has a file of its own.
TOLD = """
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:
let
  greeting = derivation {
    name = "greeting-${config.greeting or "none"}"; inherit system; builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir -p $out; echo ${./default.nix} ${./.} > $out/greeting; exit 0" ];
  };
  set = { inherit greeting; };
in
builtins.foldl' (prev: overlay: prev // overlay set prev) set overlays
"""
# Ten thousand million steps, one after the other.
ENDLESS = """
let
  numbers = builtins.genList (x: x) 100000;
  count = f: builtins.foldl' (sum: n: builtins.seq (f n) (sum + 1)) 0 numbers;
in
builtins.seq (count (n: count (m: m))) { }
"""
FLAKE = """
{ outputs = { self }: { packages.x86_64-linux = SET; }; }
"""


def digest(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["Docker-Content-Digest"]


def write(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "default.nix").write_text(text)
    return folder


def start(start_daemon: StartDaemon, state: Path | None = None, **environ: str) -> Daemon:
    return start_daemon(state=state, NIXERY_PKGS_PATH="", **environ)


def test_an_edited_folder(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Editing a folder is seen at the next pull, an untouched one starts no Nix; other
    architectures are refused by a set that knows of none."""
    folder = write(tmp_path / "set", SET.replace("VERSION", "1"))
    daemon = start_daemon(NIXERY_PKGS_PATH=str(folder))
    before = digest(daemon.pull("greeting"))
    assert digest(daemon.pull("greeting")) == before
    assert daemon.nix_builds == 1
    write(folder, SET.replace("VERSION", "2"))
    assert digest(daemon.pull("greeting")) != before
    write(folder, SET.replace("VERSION", "1"))
    assert digest(daemon.pull("greeting")) == before
    assert daemon.nix_builds == 2
    assert daemon.pull("arm64/greeting").status == 404


def test_a_commit_and_a_checkout_of_it(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """An image of a git commit and of a clean work tree of that commit have one digest, though the
    set copies files of its own."""
    repository = Repository(tmp_path / "repository")
    commit = repository.commit(TOLD)
    git = start(start_daemon, NIXERY_PKGS_REPO=repository.url, state=tmp_path / "git")
    tree = start_daemon(NIXERY_PKGS_PATH=str(repository.folder), state=tmp_path / "tree")
    answers = [git.pull("greeting"), git.pull("greeting", commit), tree.pull("greeting")]
    assert len({digest(answer) for answer in answers}) == 1
    assert {answer.headers["Nixery-Revision"] for answer in answers} == {commit}


def test_one_revision_of_every_kind_of_source(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Instances that know one commit as a repository's, a channel's, a flake's and a work tree's
    make images of one digest, which have the commit's date."""
    repository = Repository(tmp_path / "repository")
    (repository.folder / "flake.nix").write_text(FLAKE.replace("SET", "import ./default.nix"))
    text = SET.replace("builtins.currentSystem", '"x86_64-linux"')
    commit = repository.commit(text, timegm((2026, 6, 1, 12, 0, 0)))
    repository.git("branch", "nixos-unstable")
    kinds = {
        "git": {"NIXERY_PKGS_REPO": repository.url},
        "channel": {"NIXERY_CHANNEL": "nixos-unstable", "NIXERY_NIXPKGS_URL": repository.url},
        "flake": {"NIXERY_FLAKE": f"git+file://{repository.folder}"},
        "tree": {"NIXERY_PKGS_PATH": str(repository.folder)},
    }
    # Where they say that they are of one repository, which these URLs do not.
    told = {"NIXERY_IMAGE_SOURCE": "https://example.com/set", "NIXERY_CREATED": "commit"}
    pulled = {}
    for kind, source in kinds.items():
        daemon = start_daemon(state=tmp_path / kind, **{"NIXERY_PKGS_PATH": "", **source, **told})
        pulled[kind] = daemon.pull("greeting")
    assert len({digest(answer) for answer in pulled.values()}) == 1
    manifest = pulled["git"].json()
    assert manifest["annotations"]["org.opencontainers.image.revision"] == commit
    assert manifest["annotations"]["org.opencontainers.image.source"] == "https://example.com/set"
    config = daemon.get(f"/v2/greeting/blobs/{manifest['config']['digest']}").json()
    assert config["created"] == "2026-06-01T12:00:00Z"


def test_sources_are_named_without_secrets(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """An image names the repository that it was made from without credentials; one of a work tree
    names what that was cloned from, and is the same."""
    tree = Repository(tmp_path / "tree")
    commit = tree.commit(SET)
    with git_over_http(tmp_path) as server:
        server.want_credentials()
        url = server.url("tree/.git", "user:secret@")
        tree.git("remote", "add", "origin", url)
        remote = start(start_daemon, NIXERY_PKGS_REPO=url, state=tmp_path / "remote")
        local = start_daemon(NIXERY_PKGS_PATH=str(tree.folder), state=tmp_path / "local")
        answers = [remote.pull("greeting"), local.pull("greeting")]
        assert len({digest(answer) for answer in answers}) == 1
        annotations = answers[0].json()["annotations"]
        assert annotations["org.opencontainers.image.source"] == server.url("tree")
        assert annotations["org.opencontainers.image.revision"] == commit


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("{ x = ", "syntax error"),
        ("[ 1 2 ]", "a list"),
        ('throw "this set is closed"', "this set is closed"),
        ("{ missing }: { }", "missing"),
        (None, "default.nix"),
        ("let f = n: f (n + 1); in f 0", "stack overflow"),
        (ENDLESS, "within 2 s"),
    ],
)
def test_broken_sets(
    start_daemon: StartDaemon, tmp_path: Path, expression: str | None, words: str
) -> None:
    """A set that is no set, or can't be evaluated in its time, is said to be so, from a folder and
    from a repository."""
    repository = Repository(tmp_path / "repository")
    if expression is not None:
        repository.commit(expression)
    else:
        repository.git("commit", "-q", "--allow-empty", "-m", "empty")
    plain = tmp_path / "plain"
    plain.mkdir()
    if expression is not None:
        write(plain, expression)
    hurry = {"NIX_TIMEOUT": "2"} if expression == ENDLESS else {}
    daemons = [
        start_daemon(NIXERY_PKGS_PATH=str(plain), state=tmp_path / "a", **hurry),
        start(start_daemon, NIXERY_PKGS_REPO=repository.url, state=tmp_path / "b", **hurry),
    ]
    for daemon in daemons:
        answer = daemon.pull("greeting")
        assert answer.status == 400, answer.body
        assert words in answer.json()["errors"][0]["message"]
        assert str(tmp_path) not in answer.body.decode()


def test_configuration(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """The set is told what the operator says, and an edited overlay is seen; a set that can't be
    told it is refused."""
    folder = write(tmp_path / "set", TOLD)
    overlays = tmp_path / "overlays.nix"
    overlays.write_text("[ (final: prev: { more = prev.greeting; }) ]")
    told = {"greeting": "hello", "overlays": str(overlays)}
    plain = start_daemon(NIXERY_PKGS_PATH=str(folder), state=tmp_path / "plain")
    configured = start_daemon(
        NIXERY_PKGS_PATH=str(folder),
        NIXERY_NIXPKGS_CONFIG=json.dumps(told),
        state=tmp_path / "configured",
    )
    assert digest(plain.pull("greeting")) != digest(configured.pull("greeting"))
    assert plain.pull("more").status == 404
    # They are one package by two names: the images differ in what they are called.
    more, greeting = (configured.pull(name).json()["layers"] for name in ("more", "greeting"))
    assert more[:-1] == greeting[:-1]
    overlays.write_text("final: prev: { other = prev.greeting; }")
    assert configured.pull("more").status == 404
    assert configured.pull("other").status == 200
    write(folder, SET)
    answer = configured.pull("greeting")
    assert answer.status == 400
    assert "takes no config and no overlays" in answer.json()["errors"][0]["message"]


def test_flakes(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A flake's packages are served at the revision that its reference is locked to."""
    repository = Repository(tmp_path / "flake")

    def commit(version: str) -> str:
        text = FLAKE.replace("SET", SET.replace("VERSION", version))
        text = text.replace("builtins.currentSystem", '"x86_64-linux"')
        (repository.folder / "flake.nix").write_text(text)
        return repository.commit(SET)

    first = commit("1")
    daemon = start(
        start_daemon, NIXERY_FLAKE=f"git+file://{repository.folder}", NIXERY_REVISION_TTL="0"
    )
    before = daemon.pull("greeting")
    assert digest(before) == digest(daemon.pull("greeting"))
    assert before.headers["Nixery-Revision"] == first
    assert daemon.nix_builds == 1
    second = commit("2")
    after = daemon.pull("greeting")
    assert digest(after) != digest(before)
    assert after.headers["Nixery-Revision"] == second
    assert daemon.pull("nosuch").json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert daemon.pull("arm64/greeting").status == 404
    assert daemon.pull("greeting", first).status == 404
    (repository.folder / "flake.nix").unlink()
    stale = daemon.pull("greeting")
    assert (digest(stale), stale.headers["Nixery-Stale"]) == (digest(after), "true")
    (repository.folder / "flake.nix").write_text("{ outputs = { self }: { }; }")
    assert "without legacyPackages" in daemon.pull("greeting").reason


def test_a_channel_from_a_mirror(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A channel is a branch of a mirror: other channels, commits and dates are tags where the
    operator allows it, and refused elsewhere."""
    mirror = Repository(tmp_path / "mirror")
    day = timegm((2026, 6, 1, 0, 0, 0))
    first = mirror.commit(SET.replace("VERSION", "1"), day)
    last = mirror.commit(SET.replace("VERSION", "2"), day + 86399)
    tip = mirror.commit(SET.replace("VERSION", "3"), day + 86400)
    mirror.git("branch", "nixos-unstable")
    mirror.git("branch", "nixos-26.05", first)
    settings = {"NIXERY_CHANNEL": "nixos-unstable", "NIXERY_NIXPKGS_URL": mirror.url}
    closed = start(start_daemon, state=tmp_path / "closed", **settings)
    answer = closed.pull("greeting")
    assert answer.headers["Nixery-Source"] == "channel:nixos-unstable"
    assert answer.headers["Nixery-Revision"] == tip
    assert closed.get("/v2/greeting/tags/list").json()["tags"] == ["latest"]
    for tag in ("nixos-26.05", first, "2026-06-01"):
        refused = closed.pull("greeting", tag)
        assert refused.status == 404
        assert "does not serve the tag" in refused.json()["errors"][0]["message"]
    patterns = "nixos-* 20??-??-?? " + "[0-9a-f]" * 40
    opened = start(start_daemon, state=tmp_path / "open", NIXERY_TAGS=patterns, **settings)
    for tag, revision in {
        "latest": tip,
        "nixos-26.05": first,
        last: last,
        "2026-06-01": last,
        "2026-06-02": tip,
    }.items():
        assert opened.pull("greeting", tag).headers["Nixery-Revision"] == revision
    assert opened.pull("greeting", "2026-06-03").status == 404
    assert opened.pull("greeting", "main").status == 404
    tags = opened.get("/v2/greeting/tags/list").json()["tags"]
    assert tags == ["latest", "nixos-26.05", "nixos-unstable"]


def test_sets_that_read_beside_themselves(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Folders of the same contents at two places are two sources: each may look beside itself,
    where evaluation is open."""
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "beside.nix").write_text(SET.replace("VERSION", name))
        folder = write(tmp_path / name / "set", "import ../beside.nix")
        daemon = start_daemon(
            NIXERY_PKGS_PATH=str(folder),
            NIXERY_EVALUATION="open",
            STORAGE_PATH=str(tmp_path / "storage"),
        )
        digests.append(digest(daemon.pull("greeting")))
    assert digests[0] != digests[1]


def test_what_was_fetched_is_kept(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """The garbage collector of the Nix store may not have the files of a recent revision."""
    repository = Repository(tmp_path / "repository")
    repository.commit(TOLD)
    daemon = start(start_daemon, NIXERY_PKGS_REPO=repository.url)
    assert digest(daemon.pull("greeting"))
    (source,) = (link.readlink() for link in (daemon.state / "sources").glob("*/*"))
    store = package_set.environ["NIXERY_NIX_STORE"]
    argv = ["nix-store", "--store", store, "--gc", "--print-dead"]
    dead = subprocess.run(argv, capture_output=True, check=True, text=True).stdout
    assert str(source) not in dead
    assert (Path(store) / str(source)[1:] / "default.nix").read_text() == TOLD
