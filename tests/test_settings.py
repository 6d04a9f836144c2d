"""Settings."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.builds.keep_alive import AGAIN
from nixery.help import with_tables
from nixery.model.access_files import AccessFiles
from nixery.model.identity import Naming
from nixery.model.image import AMD64, ARM64
from nixery.model.limits import HistoryLimits
from nixery.model.setting import settings_of
from nixery.model.source import Channel, GitRepository, LocalFolder
from nixery.setting_groups import BucketChoice, S3Choice
from nixery.settings import CHAPTERS, NAMES, SETTINGS, Settings, SettingsInvalid
from nixery.settings import SOURCES as ALL_SOURCES
from nixery.tap import Options

SOURCES = ("NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "NIXERY_PKGS_PATH")


def read(**environ: str) -> Settings:
    return Settings.from_environ({"HOME": "/home/x", **environ})


def faults(**environ: str) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        read(**environ)
    return caught.value.faults


def test_defaults() -> None:
    """Without any setting, a channel is served on port 8080 from the user's state folder."""
    settings = read()
    assert settings.address.endpoint == "tcp:8080"
    assert settings.packages.source == Channel("nixos-unstable")
    assert settings.storage_path == "/home/x/.local/state/nixery/storage"
    assert (settings.images.nix_timeout, settings.images.layer_budget) == (600, 94)
    assert settings.shown.hold == 25
    assert (settings.shown.pages, settings.history) == ("all", HistoryLimits(7 * 86400, 10**9))


def test_platforms() -> None:
    """Names that say no platform are for the machine's own, or for those that are set, in order."""
    own = {"x86_64": AMD64, "aarch64": ARM64}.get(os.uname().machine)
    assert own is None or read().systems == (own,)
    for text in ("linux/arm64,linux/amd64", " linux/arm64, linux/amd64 linux/arm64"):
        assert read(NIXERY_PLATFORMS=text).systems == (ARM64, AMD64)
    assert read(NIXERY_PLATFORMS="linux/arm64").systems == (ARM64,)


def test_what_is_pulled_stays() -> None:
    """No grace is so short that a blob could be dropped while its image is being sent: that it is
    of use is said again and again."""
    assert faults(NIXERY_STORAGE_GRACE=str(AGAIN)) != []
    assert read(NIXERY_STORAGE_GRACE=str(2 * AGAIN)).disk.storage_grace == 2 * AGAIN


def test_sources() -> None:
    """Each way of naming a package set is understood."""
    assert read(NIXERY_CHANNEL="nixos-25.11").packages.source == Channel("nixos-25.11")
    assert read(NIXERY_PKGS_REPO="git@x:y").packages.source == GitRepository("git@x:y")
    assert read(NIXERY_PKGS_PATH="/").packages.source == LocalFolder("/")


def test_state_folder() -> None:
    """systemd's folder counts before the user's."""
    assert read(XDG_STATE_HOME="/s").state == "/s/nixery"
    assert read(XDG_STATE_HOME="/s", STATE_DIRECTORY="/a:/b").state == "/a"


def test_every_fault_is_named() -> None:
    """All that is wrong is said at once, each with the variable's name and what it may be."""
    found = faults(
        PORT="http",
        NIX_TIMEOUT="0",
        NIXERY_LAYER_BUDGET="121",
        NIXERY_HOLD="nan",
        NIXERY_COMPRESSION="brotli",
        STORAGE_PATH="relative",
        NIXERY_CHANNEL="a",
        NIXERY_PKGS_REPO="--upload-pack=b",
        BUCKET="c",
    )
    names = [
        *("PORT", "NIXERY_COMPRESSION", "STORAGE_PATH", "NIX_TIMEOUT", "NIXERY_LAYER_BUDGET"),
        *("NIXERY_HOLD", "NIXERY_CHANNEL", "NIXERY_PKGS_REPO", "BUCKET"),
    ]
    assert len(found) == len(names)
    for name in names:
        assert any(fault.startswith(name) for fault in found), name


ANY = {
    "NIXERY_CHANNEL": "nixos-unstable",
    "NIXERY_PKGS_REPO": "https://example.com/x",
    "NIXERY_PKGS_PATH": "/",
    "NIXERY_FLAKE": "github:a/b",
}


def test_more_than_one_source() -> None:
    """However many package sets are named, one line names them all."""
    for first, second in itertools.combinations(SOURCES, 2):
        (fault,) = faults(**{first: ANY[first], second: ANY[second]})
        assert first in fault
        assert second in fault
    (fault,) = faults(**ANY)
    assert all(name in fault for name in SOURCES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("PORT", text) for text in ("-1", "65536", "1.5", "8080 ", "0x50", "8_080", "٣")),
        *(("NIXERY_HOLD", text) for text in ("0", "-1", "inf", "nan", "25s", "1e9")),
        *(("NIX_TIMEOUT", text) for text in ("0", "-5", "604801", "ten")),
        *(("NIXERY_LAYER_BUDGET", text) for text in ("0", "121", "many")),
        *(("NIXERY_CHANNEL", text) for text in ("-x", "a..b", "a b", "a~1", "@{1}")),
        *(("NIXERY_PKGS_REPO", text) for text in ("x", "-x:y", "ext::sh -c x", "/a", "ftp://h/x")),
        *(("NIXERY_NIXPKGS_URL", text) for text in ("x", "--upload-pack=x")),
        *(("NIXERY_NIXPKGS_CONFIG", text) for text in ("x", "[]", "/none", '{"overlays": "x"}')),
        *(("NIXERY_STALE_IF_ERROR", text) for text in ("yes", "ON", "1")),
        *(("NIXERY_PAGES", "none"), ("NIXERY_HISTORY_DAYS", "-1"), ("NIXERY_HISTORY_SIZE", "0")),
        *(("NIXERY_TRUSTED_PROXIES", text) for text in ("x", "10.0.0.1/8", "10.0.0", "1.2.3.4:5")),
        *(("NIXERY_HTPASSWD", "x"), ("NIXERY_TOKENS", "x"), ("NIXERY_RULES", "./x")),
        *(("NIXERY_JWT_REALM", text) for text in ("x", "ftp://x", 'https://x"', "https://a b")),
        *(("STORAGE_PATH", "x"), ("NIXERY_NIX_STORE", "../x"), ("NIXERY_STORAGE_BACKEND", "azure")),
        *(("S3_PREFIX", text) for text in ("/", "/a", "a//b", "../b", "a/./b", "a b", "a/é")),
        *(
            ("NIXERY_PLATFORMS", text)
            for text in (",", "amd64", "linux/arm", "linux/amd64;", "all")
        ),
        *(("S3_BUCKET", text) for text in ("s3://x", "a/b", "-ab", "ab")),
        ("S3_PUBLIC_ENDPOINT", "s3.example"),
    ],
)
def test_values_that_are_refused(name: str, text: str) -> None:
    """What is out of range or of another form is refused, and quoted."""
    (fault,) = faults(**{name: text})
    assert fault.startswith(f"{name} is {text!r}; it must be ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("NIXERY_PKGS_REPO", "ftp://user:secret@host/x"),
        ("NIXERY_PKGS_REPO", "https://user:a secret@host/x"),
        ("NIX_POPULARITY_URL", "ftp://host/x?token=secret"),
    ],
)
def test_refusals_hold_no_secret(name: str, text: str) -> None:
    """A URL that is refused is quoted without the credentials in it: what is said may be logged."""
    (fault,) = faults(**{name: text})
    assert fault.startswith(f"{name} is ")
    assert "secret" not in fault


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("PORT", "0"), ("PORT", "65535"), ("NIXERY_HOLD", "0.1"), ("NIXERY_HOLD", "3600")),
        *(("NIX_TIMEOUT", "1"), ("NIXERY_LAYER_BUDGET", "1"), ("NIXERY_LAYER_BUDGET", "120")),
    ],
)
def test_limits_are_within(name: str, text: str) -> None:
    """The least and the greatest value are both allowed."""
    assert read(**{name: text})


def test_bucket() -> None:
    """A bucket, under either name, is where images are kept, unless a folder is asked for."""
    for name in ("BUCKET", "GCS_BUCKET"):
        settings = read(**{name: "my-images"})
        assert settings.bucket == BucketChoice("my-images", None, None, 300)
    assert read(BUCKET="one", GCS_BUCKET="two").bucket == read(BUCKET="one").bucket
    assert read(BUCKET="my-images", NIXERY_STORAGE_BACKEND="filesystem").bucket is None
    assert read().bucket is None
    chosen = read(
        BUCKET="b.c",
        GCS_SIGNING_KEY="/key",
        GCS_SIGNING_ACCOUNT="a@b",
        GCS_URL_LIFETIME="20",
        NIXERY_STORAGE_REDIRECT="off",
    )
    assert chosen.bucket == BucketChoice("b.c", "/key", "a@b", 20)
    assert (chosen.storage.redirect, chosen.storage_url) == (False, "gs://b.c")


def test_s3_bucket() -> None:
    """A bucket of S3 is where images are kept, unless another place is asked for; its prefix ends
    with a slash, however it is written."""
    assert read(S3_BUCKET="my-images").bucket == S3Choice("my-images", "", None, 300)
    for prefix in ("a/b", "a/b/"):
        chosen = read(
            S3_BUCKET="My_images", S3_PREFIX=prefix, S3_PUBLIC_ENDPOINT="https://s3.example:9000"
        )
        assert chosen.bucket == S3Choice("My_images", "a/b/", "https://s3.example:9000", 300)
        assert chosen.storage_url == "s3://My_images/a/b"
        assert chosen.folders == {"state": chosen.state}
    both = {"S3_BUCKET": "one-s3", "BUCKET": "one-gcs"}
    for backend, url in (("s3", "s3://one-s3"), ("gcs", "gs://one-gcs")):
        assert read(NIXERY_STORAGE_BACKEND=backend, **both).storage_url == url
    assert read(NIXERY_STORAGE_BACKEND="filesystem", **both).bucket is None
    (fault,) = faults(**both)
    assert fault == "BUCKET and S3_BUCKET are set; NIXERY_STORAGE_BACKEND must say which counts"


def test_what_may_be_named() -> None:
    """Only what a served branch or tag reaches may be named, if nothing else is said; of a source
    with one tag nothing can be said."""
    assert not read().packages.unreachable_commits
    assert read(NIXERY_UNREACHABLE_COMMITS="on").packages.unreachable_commits
    for name, text in (("NIXERY_TAGS", "*"), ("NIXERY_UNREACHABLE_COMMITS", "on")):
        (fault,) = faults(**{name: text}, NIXERY_PKGS_PATH="/")
        assert fault == f"{name} is set; a folder or flake has the tag latest alone"
    assert read(NIXERY_UNREACHABLE_COMMITS="off", NIXERY_PKGS_PATH="/")


def test_what_images_say() -> None:
    """Images name the package set's own address, another one, or none, and have a date or none; a
    URL with a user in it is not for images."""
    assert read().naming == Naming("auto", "epoch")
    url = "https://example.com/set?a=b#c"
    told = read(NIXERY_IMAGE_SOURCE=url, NIXERY_CREATED="commit").naming
    assert told == Naming(url, "commit")
    assert read(NIXERY_IMAGE_SOURCE="off").naming.source == "off"
    for wrong in ("https://user@example.com/x", "ssh://example.com/x", "https://a b", "none"):
        (fault,) = faults(NIXERY_IMAGE_SOURCE=wrong)
        assert "auto, off, or a URL that begins with https or http" in fault
        assert "user@" not in fault
    assert len(faults(NIXERY_CREATED="now")) == 1


def test_half_a_bucket() -> None:
    """What belongs together has to be set together."""
    for environ in (
        {"GCS_SIGNING_KEY": "/key", "BUCKET": "my-images"},
        {"GCS_SIGNING_ACCOUNT": "a@b", "BUCKET": "my-images"},
        {"NIXERY_STORAGE_BACKEND": "gcs"},
        {"NIXERY_STORAGE_BACKEND": "s3", "BUCKET": "my-images"},
        {"GCS_BUCKET": "gs://my-images"},
        {"NIXERY_ACCEL": "/b/", "NIXERY_TRUSTED_PROXIES": "unix", "BUCKET": "my-images"},
    ):
        (fault,) = faults(**environ)
        assert fault.split()[0] in environ


def test_blobs_that_are_handed_over() -> None:
    """nginx is told to send blobs where it is trusted, at a location with a name, from a folder."""
    proxy = {"NIXERY_TRUSTED_PROXIES": "127.0.0.1"}
    kept = {"BUCKET": "my-images", "NIXERY_STORAGE_BACKEND": "filesystem"}
    assert read().transport.accel is None
    assert read(NIXERY_ACCEL="/a/b-l_obs/", **proxy, **kept).transport.accel == "/a/b-l_obs/"
    (fault,) = faults(NIXERY_ACCEL="/_blobs/")
    assert fault == "NIXERY_ACCEL is set; NIXERY_TRUSTED_PROXIES must name the proxy then"
    for bucket in ("BUCKET", "S3_BUCKET"):
        (fault,) = faults(NIXERY_ACCEL="/_blobs/", **proxy, **{bucket: "my-images"})
        assert fault == "NIXERY_ACCEL is set; nginx can't send blobs of a bucket by itself"
    for wrong in ("/", "_blobs/", "/_blobs", "//", "/../", "/a/../", "/a b/", "/a%2f/", "/a\n/"):
        (fault,) = faults(NIXERY_ACCEL=wrong, **proxy)
        assert "a path in a URL that begins and ends with '/'" in fault


def test_credentials_that_go_together() -> None:
    """Half a token server, or a certificate without its key, is a fault that names what lacks."""
    for environ, lacking in (
        ({"NIXERY_TLS_CERT": "/c"}, "NIXERY_TLS_KEY"),
        ({"NIXERY_TLS_KEY": "/k"}, "NIXERY_TLS_CERT"),
        ({"NIXERY_JWT_KEY": "/k"}, "NIXERY_JWT_REALM and NIXERY_JWT_AUDIENCE"),
        ({"NIXERY_JWT_REALM": "https://x/t", "NIXERY_JWT_AUDIENCE": "x"}, "NIXERY_JWT_KEY"),
        ({"NIXERY_JWT_ISSUER": "x"}, "NIXERY_JWT_KEY"),
        ({"NIXERY_SIGNING_HOST": "x"}, "NIXERY_SIGNING_KEY"),
        ({"NIXERY_NOTIFY_SECRET_FILE": "/s"}, "NIXERY_NOTIFY_URL"),
    ):
        (fault,) = faults(**environ)
        assert f"without {lacking};" in fault


def test_signing() -> None:
    """Keys are absolute paths, which are kept from evaluation; a host is one as clients name it."""
    made = read(NIXERY_SIGNING_KEY="/a.pem /b.pem", NIXERY_SIGNING_HOST="example.com:5000/x")
    assert made.signing.keys == ("/a.pem", "/b.pem")
    assert {"/a.pem", "/b.pem"} <= set(made.files)
    (fault,) = faults(NIXERY_SIGNING_KEY="/a.pem b.pem")
    assert "absolute paths, with spaces between" in fault
    for wrong in ("https://example.com", "example.com/", "EXAMPLE.com", "a b", "-x", "x:"):
        (fault,) = faults(NIXERY_SIGNING_KEY="/a.pem", NIXERY_SIGNING_HOST=wrong)
        assert "a host in lower case" in fault


def test_several_processes() -> None:
    """Several processes can't speak TLS, whichever setting asks for it; one can."""
    pair = {"NIXERY_TLS_CERT": "/c", "NIXERY_TLS_KEY": "/k"}
    for tls in (pair, {"NIXERY_LISTEN": "ssl:443"}):
        assert read(NIXERY_WORKERS="1", **tls).address.workers == 1
        (fault,) = faults(NIXERY_WORKERS="2", **tls)
        assert "NIXERY_WORKERS is more than 1 with TLS" in fault
    assert read(NIXERY_WORKERS="2").address.workers == 2


def test_access() -> None:
    """Files of users and rules, a token server, proxies and TLS are taken as they are given."""
    settings = read(
        NIXERY_HTPASSWD="/h",
        NIXERY_RULES="/r",
        NIXERY_JWT_KEY="/k",
        NIXERY_JWT_REALM="https://tokens.example/token",
        NIXERY_JWT_AUDIENCE="registry.example",
        NIXERY_TRUSTED_PROXIES="10.0.0.0/8, ::1 unix",
        NIXERY_TLS_CERT="/c",
        NIXERY_TLS_KEY="/t",
    )
    files = AccessFiles(
        htpasswd="/h",
        rules="/r",
        jwt_key="/k",
        jwt_realm="https://tokens.example/token",
        jwt_audience="registry.example",
    )
    assert settings.access == files
    assert settings.transport.tls == ("/c", "/t")
    assert settings.transport.proxies == "10.0.0.0/8, ::1 unix"


def test_empty_is_unset() -> None:
    """A variable that is set to nothing, as unit files and container platforms do, is not set."""
    assert read(**{variable.variable: "" for variable in SETTINGS}) == read()


def test_where_to_listen() -> None:
    """An endpoint string counts before a port."""
    assert read(NIXERY_LISTEN="unix:/run/x", PORT="1").address.endpoint == "unix:/run/x"


@given(st.dictionaries(st.sampled_from([v.variable for v in SETTINGS]), st.text(max_size=5)))
def test_any_values(environ: dict[str, str]) -> None:
    """Whatever is set, there are settings, or a line for each fault that names a variable."""
    outcome = settings_or_faults(environ)
    if isinstance(outcome, Settings):
        assert os.path.isabs(outcome.storage_path)
    else:
        assert outcome
        assert {fault.split()[0] for fault in outcome} <= set(environ)


def settings_or_faults(environ: dict[str, str]) -> Settings | list[str]:
    try:
        return read(**environ)
    except SettingsInvalid as invalid:
        return invalid.faults


def test_a_folder_that_is_not_there() -> None:
    """A package set that does not exist is a fault at the start, not at the first pull."""
    assert faults(NIXERY_PKGS_PATH="/no/such") == [
        "NIXERY_PKGS_PATH is '/no/such'; there is no such file or folder"
    ]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own state folder is no matter."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.program
def test_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line option counts before the environment variable of the same meaning."""
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("NIX_TIMEOUT", "77")
    options = Options()
    options.parseOptions(["--port", "4321"])
    assert options.settings.address.endpoint == "tcp:4321"
    assert options.settings.images.nix_timeout == 77


@pytest.mark.program
def test_an_option_for_the_source_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package set named on the command line stands against any that the environment names."""
    monkeypatch.setenv("NIXERY_CHANNEL", "nixos-25.11")
    options = Options()
    options.parseOptions(["--pkgs-path", "/"])
    assert options.settings.packages.source == LocalFolder("/")


def test_every_variable_has_an_option() -> None:
    """Options have names of their own, and the help names the variable of each."""
    assert len({variable.option for variable in SETTINGS}) == len(SETTINGS)
    usage = " ".join(str(Options()).split())
    for variable in SETTINGS:
        assert f"--{variable.option}=" in usage
        assert f"(${variable.variable})" in usage


@pytest.mark.program
def test_broken_settings_end_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken settings end the program with exit code 1 and a line for each fault."""
    monkeypatch.setenv("PORT", "x")
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(["--hold", "y"])
    assert caught.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_make_run_takes_every_source() -> None:
    """Whatever names a package set, ``make run`` serves that and not its own set besides."""
    script = (Path(__file__).parents[1] / "scripts" / "run").read_text("utf-8")
    for name in ALL_SOURCES:
        assert f"${{{name}:-}}" in script


def test_the_page_is_what_is_written() -> None:
    """The tables of docs/settings.md are those that ``make docs`` writes, and no others."""
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text("utf-8")
    assert with_tables(page) == page
    assert page.count("| variable | meaning (default) |") == len(CHAPTERS)


def test_a_page_without_a_chapter() -> None:
    """A page that lacks a chapter is refused, and the chapter named."""
    with pytest.raises(ValueError, match="'Where it listens'"):
        with_tables("# Settings\n")


def test_every_group_is_in_a_chapter() -> None:
    """No setting is declared without being read: each group of the settings is in one chapter."""
    types = [field.type for field in attrs.fields(Settings)]
    declared = [
        one for each in types if each and attrs.has(each) for one in settings_of(each).values()
    ]
    assert sorted(each.variable for each in declared) == sorted(NAMES)
    assert len(SETTINGS) == len(NAMES)
    assert list(SETTINGS) == [each for chapter in CHAPTERS.values() for each in chapter]


def test_twisted_is_not_needed() -> None:
    """The settings can be read by programs that have no use for Twisted, in a moment."""
    program = "import sys, nixery.settings; print('twisted' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
