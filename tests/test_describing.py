"""What would run, as operators are told it."""

from pathlib import Path

import pytest

from nixery.checking import remarks_on
from nixery.describing import describe, named_by
from nixery.nix.evaluation import OPEN
from nixery.settings import Settings


@pytest.fixture
def lines(tmp_path: Path) -> "Lines":
    """Describes settings."""
    return Lines(tmp_path)


class Lines:
    """What is said of settings.

    :ivar folder: one with nothing in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, **environ: str) -> dict[str, str]:
        """The lines by what they are about."""
        environ = {"STATE_DIRECTORY": str(self.folder / "state"), **environ}
        text = describe(Settings.from_environ(environ))
        return {line[:13].rstrip(): line[13:] for line in text.splitlines()}


def test_the_package_set(lines: Lines) -> None:
    """The package set is named, and where to listen."""
    said = lines(NIXERY_CHANNEL="nixos-25.11", PORT="4321")
    assert (said["packages"], said["listens on"]) == ("the channel nixos-25.11", "tcp:4321")


def test_processes(lines: Lines) -> None:
    """It is said how many processes answer requests, if they are several."""
    assert lines(NIXERY_WORKERS="2")["processes"] == "2, of which one builds"
    assert "processes" not in lines()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NIXERY_CHANNEL", "nixos-25.11"),
        ("NIXERY_PKGS_REPO", "https://host.example/x"),
        ("NIXERY_PKGS_PATH", "/"),
        ("NIXERY_FLAKE", "github:a/b"),
    ],
)
def test_which_setting_names_it(name: str, text: str) -> None:
    """Faults of a package set name the setting that it comes from."""
    settings = Settings.from_environ({"STATE_DIRECTORY": "/state", name: text})
    assert named_by(settings.packages.source).startswith(f"{name} names the ")


def test_what_evaluation_may_do(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how evaluation is confined, what it may fetch, what ``NIX_PATH`` adds."""
    monkeypatch.setenv("NIX_PATH", "lib=/srv/lib")
    source = {"NIXERY_PKGS_PATH": str(lines.folder)}
    line = lines(NIXERY_ALLOWED_URIS="https://a.example/ github:b/", **source)["evaluation"]
    assert "confined to the package set" in line
    assert "https://a.example/, github:b/" in line
    assert line.endswith("lib=/srv/lib")
    assert lines(NIXERY_EVALUATION="open", **source)["evaluation"] == OPEN


def test_what_may_be_named(lines: Lines) -> None:
    """It is said which tags are served, and whether commits of others are."""
    some = "nixos-* [0-9a-f]*"
    assert lines(NIXERY_PKGS_PATH="/")["tags"] == "latest"
    assert lines()["tags"] == "latest"
    reached = f"latest {some}; commits in the histories of these"
    assert lines(NIXERY_TAGS=some)["tags"] == reached
    all_of_them = lines(NIXERY_TAGS=some, NIXERY_UNREACHABLE_COMMITS="on")
    assert all_of_them["tags"] == f"latest {some}; commits of pull requests and forks too"


def test_who_may_pull(lines: Lines) -> None:
    """It is said by what users are known."""
    assert lines()["may pull"] == "everybody"
    assert lines(NIXERY_HTPASSWD="/users")["may pull"] == "users with passwords"


def test_what_signs_images(lines: Lines) -> None:
    """It is said by which keys images are signed, and for which host."""
    assert "signs with" not in lines()
    keys = {"NIXERY_SIGNING_KEY": "/a.pem /b.pem"}
    assert lines(**keys)["signs with"] == "/a.pem, /b.pem, naming no host"
    said = lines(**keys, NIXERY_SIGNING_HOST="example.com:5000")
    assert said["signs with"] == "/a.pem, /b.pem, for example.com:5000"


def test_where_traces_are_sent(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said where traces are sent, without credentials, if they are; another protocol than
    the one that is spoken is remarked on then."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    settings = Settings.from_environ({"STATE_DIRECTORY": str(lines.folder)})
    assert "traces" not in lines()
    assert remarks_on(settings) == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@collector:4318")
    assert lines()["traces"] == "sent to http://collector:4318"
    (remark,) = remarks_on(settings)
    assert "'grpc'" in remark


def test_what_is_made_in_advance(lines: Lines) -> None:
    """It is said which images are made in advance, and who is told of builds, without credentials,
    if any are."""
    assert lines().keys() & {"in advance", "tells"} == set()
    said = lines(
        NIXERY_PREBUILD="shell/git most-pulled:20", NIXERY_NOTIFY_URL="https://me:secret@events/x"
    )
    assert said["in advance"] == "shell/git:latest, the 20 that are pulled most"
    assert said["tells"] == "https://events/x of builds"
