"""What a package set's evaluation may do, by the real Nix. A marker file that lies beside the set
stands for a secret."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from nixery.nix.evaluation import CONFINED, OPEN
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Answer, Daemon
from tests.e2e.packages import PackageSet
from tests.repository import Repository

pytestmark = pytest.mark.real_nix

SET = """
{ system ? "x86_64-linux", config ? { }, overlays ? [ ] }:
let
  make = name: text: derivation {
    inherit name system; builder = "/bin/sh"; args = [ "-c" "echo '${text}' > $out" ];
  };
  set = rec {
    plain = make "plain" "plain ${config.word or "alone"}";
    imported = make "imported" (builtins.readFile plain);
    environment = make "environment" "<${builtins.getEnv "HOME"}${builtins.getEnv "PATH"}>";
    state = make "state" (toString (builtins.attrNames (builtins.readDir <state>)));
    home = make "home" (toString (builtins.attrNames (builtins.readDir <home>)));
    beside = make "beside" (builtins.readFile ../secret/marker);
    absolute = make "absolute" (builtins.readFile "PLACE/secret/marker");
    linked = make "linked" (builtins.readFile ./link);
    copied = make "copied" "${../secret}";
    gathered = make "gathered" (builtins.path { path = ../secret; name = "gathered"; });
    repository = make "repository" (builtins.fetchGit "PLACE/secret").outPath;
    itself = make "itself" (builtins.fetchGit ./.).outPath;
    mercurial = make "mercurial" (builtins.fetchMercurial ./.).outPath;
    fetched = make "fetched" (builtins.readFile (builtins.fetchurl "http://127.0.0.1:1/x"));
  };
in
builtins.foldl' (set: overlay: set // overlay set set) set overlays
"""
FLAKE = """
{ INPUTS outputs = { self, ... }@inputs: { packages.x86_64-linux = import ./default.nix { }; }; }
"""
READ = {
    "beside": "../secret/marker",
    "linked": "../secret/marker",
    "copied": "../secret",
    "gathered": "../secret",
    "absolute": "../secret/marker",
    "repository": "../secret",
}
RUN = ("repository", "itself", "mercurial")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a package set in ``set``, and a repository with a marker beside it."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "default.nix").write_text(SET.replace("PLACE", str(tmp_path)))
    (tmp_path / "set" / "link").symlink_to("../secret/marker")
    secret = Repository(tmp_path / "secret")
    (secret.folder / "marker").write_text("seen")
    secret.commit("{ }")
    return tmp_path


def as_repository(place: Path, inputs: str = "") -> Repository:
    """The set in a git repository, which is a flake too."""
    repository = Repository(place / "repository")
    for name in ("default.nix", "link"):
        (place / "set" / name).rename(repository.folder / name)
    (repository.folder / "flake.nix").write_text(FLAKE.replace("INPUTS", inputs))
    repository.commit((repository.folder / "default.nix").read_text())
    return repository


def layers(daemon: Daemon, name: str) -> bytes:
    """All that is in an image's layers."""
    answer = daemon.pull(name)
    assert answer.status == 200, answer.body
    blobs = [
        daemon.get(f"/v2/{name}/blobs/{layer['digest']}").body for layer in answer.json()["layers"]
    ]
    return b"".join(map(gzip.decompress, blobs))


def refusal(answer: Answer) -> str:
    """The message of a refusal for what evaluation may not do."""
    assert answer.status == 400, answer.body
    (error,) = answer.json()["errors"]
    assert error["detail"]["code"] == "EVALUATION_FAILED"
    assert "evaluation is confined" in error["message"]
    return str(error["message"])


def test_a_folder(start_daemon: StartDaemon, place: Path) -> None:
    """A folder's evaluation reads the folder and nothing else, has no environment, starts no
    program, fetches nothing; what was refused is named as its author knows it."""
    daemon = start_daemon(NIXERY_PKGS_PATH=str(place / "set"), NIX_PATH="")
    assert CONFINED in daemon.log
    assert daemon.pull("plain").status == 200
    assert b"<>" in layers(daemon, "environment")
    for name, path in READ.items():
        message = refusal(daemon.pull(name))
        assert f"may not read '{path}'" in message
        assert str(place) not in message
        build = message.rpartition("/builds/")[2]
        log = daemon.get(f"/builds/{build}/log").body.decode()
        assert "may not read" in log
        assert f"'{place}" not in log
    for name in RUN:
        assert str(place) not in refusal(daemon.pull(name))
    assert daemon.git_runs() == 0
    assert "may not fetch 'http://127.0.0.1:1/x'" in refusal(daemon.pull("fetched"))


def test_a_git_repository(start_daemon: StartDaemon, place: Path) -> None:
    """A commit's evaluation reads its files and nothing else."""
    repository = as_repository(place)
    source = {"NIXERY_PKGS_PATH": "", "NIXERY_PKGS_REPO": repository.url}
    daemon = start_daemon(**source, NIX_PATH="", NIXERY_REVISION_TTL="3600")
    assert daemon.pull("plain").status == 200
    before = daemon.git_runs()
    # In the store, the link leads nowhere.
    for name in {*READ, *RUN, "fetched"} - {"linked"}:
        refusal(daemon.pull(name))
    assert daemon.git_runs() == before


def test_a_flake(start_daemon: StartDaemon, place: Path) -> None:
    """A flake's evaluation is pure: it reads the flake and its locked inputs, and nothing else."""
    repository = as_repository(place)
    reference = f"git+file://{repository.folder}"
    source = {"NIXERY_PKGS_PATH": "", "NIXERY_FLAKE": reference}
    daemon = start_daemon(**source, NIXERY_REVISION_TTL="3600")
    assert daemon.pull("plain").status == 200
    before = daemon.git_runs()
    for name in ("beside", "absolute", "copied", "gathered"):
        refusal(daemon.pull(name))
    for name in RUN:
        assert daemon.pull(name).status == 400
    assert daemon.git_runs() == before


@pytest.mark.parametrize("kind", ["path:", "git+file://"])
def test_inputs_of_a_flake(
    start_daemon: StartDaemon, package_set: PackageSet, place: Path, kind: str
) -> None:
    """A flake can't have a folder of the machine for an input, whether that is locked or not."""
    other = f'inputs.other = {{ url = "{kind}{place}/secret"; flake = false; }};'
    repository = as_repository(place, other)
    reference = f"git+file://{repository.folder}"
    settings = {"NIXERY_PKGS_PATH": "", "NIXERY_FLAKE": reference, "NIXERY_REVISION_TTL": "0"}
    unlocked = start_daemon(state=place / "unlocked", **settings).pull("plain")
    assert unlocked.status in (400, 503)
    if kind.startswith("git"):
        assert "git may not be run on folders" in unlocked.body.decode()
    features = ("--extra-experimental-features", "nix-command flakes")
    store = package_set.environ["NIXERY_NIX_STORE"]
    subprocess.run(
        ["nix", *features, "--store", store, "flake", "lock", str(repository.folder)],
        check=True,
        capture_output=True,
        cwd=place,
    )
    repository.commit((repository.folder / "default.nix").read_text())
    locked = start_daemon(state=place / "locked", **settings)
    assert "'other' is a place on this machine" in refusal(locked.pull("plain"))
    lifted = start_daemon(state=place / "lifted", NIXERY_EVALUATION="open", **settings)
    assert lifted.pull("plain").status == 200


@pytest.mark.parametrize("mode", ["confined", "open"])
@pytest.mark.parametrize("setting", ["restrict-eval", "pure-eval"])
def test_settings_of_nix(start_daemon: StartDaemon, place: Path, mode: str, setting: str) -> None:
    """Where an operator has Nix evaluate restricted or purely, every kind of source is served."""
    repository = as_repository(place)
    (place / "set" / "default.nix").write_text(SET)
    sources = {
        "NIXERY_PKGS_PATH": str(place / "set"),
        "NIXERY_PKGS_REPO": repository.url,
        "NIXERY_FLAKE": f"git+file://{repository.folder}",
    }
    for name, source in sources.items():
        environ = {"NIXERY_PKGS_PATH": "", "NIX_CONFIG": f"{setting} = true", name: source}
        daemon = start_daemon(state=place / name, NIXERY_EVALUATION=mode, **environ)
        assert daemon.pull("plain").status == 200


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_a_set_like_nixpkgs(start_daemon: StartDaemon, place: Path, allowed: str) -> None:
    """A set is told its configuration and overlays, which lie elsewhere; whether it may import
    what it builds is for Nix's own setting to say."""
    overlays = place / "overlays"
    overlays.mkdir()
    (overlays / "default.nix").write_text("import ./one.nix")
    (overlays / "one.nix").write_text("[ (_: set: { renamed = set.plain; }) ]")
    daemon = start_daemon(
        NIXERY_PKGS_PATH=str(place / "set"),
        NIXERY_NIXPKGS_CONFIG=json.dumps({"word": "told", "overlays": str(overlays)}),
        NIX_CONFIG=f"allow-import-from-derivation = {allowed}",
    )
    assert b"plain told" in layers(daemon, "renamed")
    imported = daemon.pull("imported")
    if allowed == "true":
        assert imported.status == 200
    else:
        assert imported.status == 400
        assert "allow-import-from-derivation" in imported.json()["errors"][0]["message"]


def test_the_view(start_daemon: StartDaemon, place: Path) -> None:
    """Even if Nix lets a set read the daemon's state and home, there is nothing in them but what
    Nix itself needs."""
    home, state = place / "home", place / "state"
    (home / ".config" / "nix").mkdir(parents=True)
    (place / "data").mkdir()
    state.symlink_to("data")  # as where a larger disk is
    (home / "marker").write_text("seen")
    daemon = start_daemon(
        state=state,
        NIXERY_PKGS_PATH=str(place / "set"),
        NIX_PATH=f"state={place / 'data'}:home={home}",
        HOME=str(home),
        NIXERY_NIX_STORE=str(place / "data" / "nix"),
    )
    assert daemon.pull("plain").status == 200
    seen = layers(daemon, "state")
    assert (state / "storage").is_dir()
    # The one for programs is in PATH.
    assert b"cache kept nix programs roots sources\n" in seen
    assert b"marker" not in layers(daemon, "home")


def test_open(start_daemon: StartDaemon, place: Path) -> None:
    """Where the operator says so, a set may read and run what the daemon's user may."""
    daemon = start_daemon(
        NIXERY_PKGS_PATH=str(place / "set"), NIXERY_EVALUATION="open", NIX_PATH=""
    )
    assert OPEN in daemon.log
    assert b"seen" in layers(daemon, "beside")
    assert daemon.pull("repository").status == 200
    assert daemon.git_runs() > 0
