"""What keeps the daemon from starting, as ``--check`` and a start say it.

The programs of Nix are fakes here; tests/e2e/test_ready.py has the real ones.
"""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from nixery.checking import unwritable, with_state
from nixery.nix_parts import make_confinement
from nixery.settings import Settings
from nixery.tap import Options
from tests.attest.keys import ED25519_KEY, write_key
from tests.gcs.fake import fake_gcs_server
from tests.programs import make_programs
from tests.s3.moto import moto_server
from tests.waiting import HUNG

pytestmark = pytest.mark.program

TOP = Path(__file__).resolve().parents[1]
TWISTD = str(Path(sys.executable).with_name("twistd"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that nothing is in: the programs and the package set lie elsewhere."""
    made = tmp_path / "home"
    made.mkdir()
    return made


def twistd(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``twistd nixery`` as an operator starts it from a checkout, with Nix's programs faked."""
    programs = folder.parent / "programs"
    if not programs.exists():
        make_programs(programs)
    kept = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(TOP),
        "NIXERY_NIX_STORE": str(folder / "store"),
        "NIXERY_LISTEN": "tcp:0:interface=127.0.0.1",
        **({} if "NIXERY_CHANNEL" in environ else {"NIXERY_PKGS_PATH": str(programs)}),
    }
    command = [TWISTD, "--nodaemon", "--pidfile=", "nixery", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**kept, **environ}, capture_output=True, text=True, timeout=HUNG
    )


def faults(ran: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines about faults that a run has printed; nothing else is on its standard error."""
    lines = ran.stderr.splitlines()
    assert all(line.startswith("nixery: ") for line in lines), ran.stderr
    return [line.removeprefix("nixery: ") for line in lines]


def test_all_is_well(home: Path) -> None:
    """``twistd nixery --check`` prints what would run, writes nothing, and ends with 0."""
    ran = twistd(home, "--check")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "tcp:0:interface=127.0.0.1" in ran.stdout
    assert os.listdir(home) == []


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_a_folder_of_somebody_else(tmp_path: Path, arguments: list[str]) -> None:
    """A folder that holds somebody's files ends the start and the check, with its name; nothing is
    touched."""
    (tmp_path / "images" / "layers").mkdir(parents=True)
    (tmp_path / "images" / "layers" / "base.psd").write_text("seen")
    before = sorted(tmp_path.rglob("*"))
    ran = twistd(tmp_path, *arguments, STORAGE_PATH=str(tmp_path / "images"))
    assert ran.returncode == 1
    assert (
        f"{tmp_path}/images can't be the storage folder: it holds 'layers/base.psd'" in ran.stderr
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_broken_settings(home: Path) -> None:
    """Broken settings end ``twistd`` with 1, a line for each on stderr, and no traceback."""
    ran = twistd(home, "--port", "x", NIX_TIMEOUT="never", NIXERY_LISTEN="nosuch:1")
    assert ran.returncode == 1
    assert {line.split()[0] for line in faults(ran)} == {"PORT", "NIX_TIMEOUT"}
    ran = twistd(home, NIXERY_LISTEN="nosuch:1")
    assert ran.returncode == 1
    assert [line.split()[0] for line in faults(ran)] == ["NIXERY_LISTEN"]


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_a_mistyped_setting(home: Path, arguments: list[str]) -> None:
    """A mistyped setting ends the start: it may be the one that keeps strangers out. What it was
    set to is not printed."""
    ran = twistd(home, *arguments, NIXERY_HTPASWD="/secret")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert fault.startswith("NIXERY_HTPASWD is not a setting; did you mean NIXERY_HTPASSWD?")
    assert "secret" not in ran.stderr + ran.stdout


def test_variables_of_kubernetes(home: Path) -> None:
    """What Kubernetes says of a Service named nixery is no fault, and is said to be ignored."""
    links = {"NIXERY_PORT": "tcp://10.0.0.9:80", "NIXERY_SERVICE_HOST": "10.0.0.9"}
    ran = twistd(home, "--check", **links)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "ignores      NIXERY_PORT, NIXERY_SERVICE_HOST: set by Kubernetes" in ran.stdout


def test_a_port_in_use(home: Path) -> None:
    """A port that another program has is named, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = twistd(home, "--check", NIXERY_LISTEN=f"tcp:{port}:interface=127.0.0.1")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert f"port {port} is in use" in fault
    assert "choose another port" in fault


def test_a_set_that_cannot_be_used(home: Path) -> None:
    """A package set that can't be evaluated is a fault that names the setting and the reason."""
    program = 'echo "error: there is no default.nix in it" >&2; exit 1'
    make_programs(home.parent / "programs", nix_instantiate=program)
    ran = twistd(home, "--check")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert fault.startswith(f"NIXERY_PKGS_PATH names the folder {home.parent / 'programs'}: ")
    assert fault.endswith("there is no default.nix in it")


def test_a_source_that_cannot_be_reached(home: Path) -> None:
    """A package source that can't be reached is a fault that names the setting."""
    ran = twistd(home, "--check", NIXERY_CHANNEL="nixos-25.11")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert fault.startswith("NIXERY_CHANNEL names the channel nixos-25.11: ")
    assert "the network is down" in fault


def test_a_nix_that_is_too_old(home: Path) -> None:
    """A Nix that is too old is named, with the version that is needed; what it can't do is not
    told besides."""
    old = make_programs(home.parent / "programs", nix="echo 'nix (Nix) 2.3.16'")
    assert old.is_dir()
    ran = twistd(home, "--check")
    assert ran.returncode == 1
    assert faults(ran) == ["Nix 2.3.16 is too old: install 2.8 or later"]


def test_a_nix_that_cannot_build(home: Path) -> None:
    """A Nix that can't make its sandbox is a fault with a remedy; what the failed build has left
    in the store is removed."""
    deleted = home.parent / "deleted"
    path = f"/nix/store/{'0' * 32}"
    build = (
        "name=$(expr \"$*\" : '.*\\(nixery-trial-[0-9a-f]*\\)');"
        f"echo \"building '{path}-$name.drv'...\" >&2;"
        "echo 'error: setgroups failed: Operation not permitted' >&2; exit 1"
    )
    remove = f'case "$*" in *--delete*) echo "$*" >> {deleted} ;; *) true ;; esac'
    make_programs(home.parent / "programs", nix_build=build, nix_store=remove)
    ran = twistd(home, "--check")
    assert ran.returncode == 1
    (fault,) = faults(ran)
    assert "Nix can't make its sandbox (setgroups failed: Operation not permitted)" in fault
    assert f"{path}-nixery-trial-" in deleted.read_text()
    assert os.listdir(home) == []


def test_folders_that_cannot_be_written_to(tmp_path: Path) -> None:
    """A folder is named that can't be made, with the user and a remedy; one that could be made is
    no fault."""
    (tmp_path / "file").touch()
    environ = {
        "STATE_DIRECTORY": str(tmp_path / "state" / "deep"),
        "STORAGE_PATH": str(tmp_path / "file" / "images"),
        "NIXERY_NIX_STORE": str(tmp_path / "store"),
        "NIXERY_PKGS_PATH": "/",
    }
    (fault,) = unwritable(Settings.from_environ(environ))
    assert fault.startswith(f"{tmp_path}/file/images can't be the storage folder: user ")
    assert "STORAGE_PATH" in fault
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_folders_of_others(tmp_path: Path) -> None:
    """A folder that this user may not write to is named."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(stat.S_IRUSR | stat.S_IXUSR)
    settings = Settings.from_environ({"STATE_DIRECTORY": str(state), "NIXERY_PKGS_PATH": "/"})
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may write everywhere
    try:
        found = unwritable(settings)
    finally:
        os.seteuid(user)
    assert any(fault.startswith(f"{state} can't be the state folder: ") for fault in found)
    assert all("Permission denied" in fault for fault in found)


def test_check_of_a_good_bucket(tmp_path: Path) -> None:
    """``--check`` of a bucket that can be used ends with 0."""
    with fake_gcs_server(tmp_path / "gcs") as fake:
        ran = twistd(tmp_path, "--check", **fake.environ, NIXERY_STORAGE_REDIRECT="off")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "gs://images; clients get copies from here" in ran.stdout


def test_check_of_a_bucket(tmp_path: Path) -> None:
    """``--check`` looks at the bucket, and ends with 1 and a line that says what is wrong."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        ran = twistd(tmp_path, "--check", BUCKET="my-images", STORAGE_EMULATOR_HOST=host)
    assert ran.returncode == 1
    assert "gs://my-images; clients load from it" in ran.stdout
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("nixery: ")]
    assert line.startswith("nixery: gs://my-images: ")
    assert "refused" in line


def test_check_of_s3(tmp_path: Path) -> None:
    """``--check`` does all in a bucket of S3 that the daemon does there, names what is wrong, and
    tells what the service lacks."""
    with moto_server(tmp_path / "s3") as service:
        good = twistd(tmp_path, "--check", **service.environ, S3_PREFIX="a/b")
        other = twistd(tmp_path, "--check", **attrs.evolve(service, bucket="other-images").environ)
        assert service.names() == []
    assert good.returncode == 0
    assert "s3://images/a/b; clients load from it" in good.stdout
    assert "s3://images/a/b: the service keeps no CRC32C checksums" in good.stderr
    assert other.returncode == 1
    assert "nixery: s3://other-images: there is no bucket 'other-images'" in other.stderr


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Each file of users, rules or keys that can't be used ends the start, with what is wrong,
    besides whatever else is."""
    (tmp_path / "users").write_text("alice:{SHA}x\n")
    (tmp_path / "rules").write_text("[user.alice]\n")
    ran = twistd(
        tmp_path,
        "--check",
        NIXERY_HTPASSWD=str(tmp_path / "users"),
        NIXERY_RULES=str(tmp_path / "rules"),
        NIXERY_TLS_CERT="/no/such",
        NIXERY_TLS_KEY="/no/such",
        NIXERY_LISTEN="nosuch:1",
        NIXERY_SIGNING_KEY=f"{tmp_path / 'rules'} /no/such",
    )
    assert ran.returncode == 1
    said = ran.stderr.splitlines()
    assert [line.split()[1].rstrip(":,") for line in said] == [
        "NIXERY_LISTEN",
        str(tmp_path / "users"),
        str(tmp_path / "rules"),
        "/no/such",
        str(tmp_path / "rules"),
        "/no/such",
    ]


def test_check_warns_of_an_open_key(tmp_path: Path) -> None:
    """``--check`` says if everybody on the machine can read the key that images are signed with,
    and ends with 0."""
    key = tmp_path / "key"
    write_key(key, ED25519_KEY)
    for mode in (0o600, 0o644):
        key.chmod(mode)
        ran = twistd(tmp_path, "--check", NIXERY_SIGNING_KEY=str(key))
        assert ran.returncode == 0
        warned = f"nixery: warning: {key}: every user of this machine" in ran.stderr
        assert warned == (mode == 0o644)


def test_check_warns_of_cheap_passwords(tmp_path: Path) -> None:
    """``--check`` names the users whose passwords are fast to guess, and ends with 0."""
    users = tmp_path / "users"
    for cost, said in ((5, True), (10, False)):
        users.write_text(f"alice:$2y${cost:02}${'a' * 53}\n")
        ran = twistd(tmp_path, "--check", NIXERY_HTPASSWD=str(users))
        assert ran.returncode == 0
        warned = f"nixery: warning: {users}: bcrypt cost below 10" in ran.stderr
        assert (warned, "'alice'" in ran.stderr) == (said, said)


@pytest.mark.parametrize("name", ["NIXERY_LISTEN", "NIXERY_OPERATIONS_LISTEN"])
@pytest.mark.parametrize(
    "endpoint",
    [
        *("nosuch:1", "tcp:x", "tcp", "systemd:domain=INET:index=9"),
        "ssl:443:certKey=/no/such:privateKey=/no/such",
    ],
)
def test_endpoints_that_cannot_be(
    name: str, endpoint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no endpoint ends the start, and the check of the settings, with exit code 1 and a
    line that names the setting."""
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(["--check"])
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith(f"nixery: {name} is {endpoint!r}; ")


@pytest.mark.parametrize("chosen", [{}, {"STORAGE_PATH": "/images"}])
def test_the_check_hides_the_images(chosen: dict[str, str]) -> None:
    """A package set that ``--check`` evaluates can't read the images that there are already."""
    environ = {"HOME": "/h", "STATE_DIRECTORY": "/state", "NIXERY_PKGS_PATH": "/", **chosen}
    settings = Settings.from_environ(environ)
    confinement = make_confinement(with_state(settings, "/elsewhere", environ), environ, None)
    assert confinement is not None
    assert {"/elsewhere", settings.storage_path} <= set(confinement.hidden)
