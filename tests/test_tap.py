"""All parts put together, without a network: the endpoint is a fake."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nixery.model.errors import StorageUnavailable
from nixery.nix.evaluation import OPEN
from nixery.parts import child_environment
from nixery.registry import Listening, make_service
from nixery.service import Phases, RegistryService, Served
from nixery.settings import Settings
from nixery.tap import Options, makeService, with_backlog
from tests.gcs.fake import fake_gcs_server

reactor: Any = _reactor
TOP = Path(__file__).resolve().parents[1]
TWISTD = str(Path(sys.executable).with_name("twistd"))


@implementer(IListeningPort)
class FakePort:
    """A port that nobody can reach."""

    open = True

    def startListening(self) -> None:
        self.open = True

    def stopListening(self) -> Deferred[None]:
        self.open = False
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4321)


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """An endpoint that notes what it is to serve.

    :ivar result: what listening comes to.
    """

    def __init__(self) -> None:
        self.port = FakePort()
        self.site: Factory | None = None
        self.result: Deferred[IListeningPort] = succeed(self.port)

    def listen(self, factory: Factory) -> Deferred[IListeningPort]:  # type: ignore[override]
        self.site = factory
        return self.result


class Daemon:
    """A daemon in this process, behind a fake endpoint."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.endpoint = FakeEndpoint()
        self.state = folder / "state"
        environ = {"STATE_DIRECTORY": str(self.state), "NIXERY_PKGS_PATH": str(folder), **environ}
        settings = Settings.from_environ(environ)
        self.service: RegistryService = make_service(
            reactor, settings, environ, Listening(self.endpoint)
        )

    async def start(self) -> None:
        self.service.startService()
        assert self.service.started is not None
        await self.service.started

    def stop(self) -> Deferred[None]:
        return self.service.stopService()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    assert verifyObject(IStreamServerEndpoint, made.endpoint)
    assert verifyObject(IListeningPort, made.endpoint.port)
    yield made
    if made.service.running:
        pytest_twisted.blockon(made.stop())


@pytest_twisted.ensureDeferred
async def test_start_and_stop(daemon: Daemon) -> None:
    """The daemon listens when its storage and its folders are ready, says so, and stops
    listening."""
    with capturedLogs() as captured:
        await daemon.start()
    assert daemon.endpoint.site is not None
    assert {"storage", "roots"} <= set(os.listdir(daemon.state))
    assert any("docker pull localhost:4321/" in formatEvent(event) for event in captured)
    await daemon.stop()
    assert not daemon.endpoint.port.open


@pytest_twisted.ensureDeferred
async def test_nothing_listens_without_a_storage(tmp_path: Path) -> None:
    """No request is taken before the storage is ready."""
    (tmp_path / "file").touch()
    daemon = Daemon(tmp_path, STORAGE_PATH=str(tmp_path / "file" / "x"))
    with capturedLogs() as captured:
        started = Deferred.fromCoroutine(daemon.service._start())
        with pytest.raises(StorageUnavailable):
            await started
    assert daemon.endpoint.site is None
    assert not [event for event in captured if "ready" in formatEvent(event)]


@pytest_twisted.ensureDeferred
async def test_a_stop_while_it_starts(daemon: Daemon) -> None:
    """A daemon that is stopped before it listens gives that up, and that is no fault."""
    given_up: list[object] = []
    daemon.endpoint.result = Deferred(given_up.append)
    daemon.service.startService()
    while daemon.endpoint.site is None:
        await _moment()
    with capturedLogs() as captured:
        await daemon.stop()
    assert len(given_up) == 1
    assert not [event for event in captured if "cannot start" in formatEvent(event)]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pages", ["all", "no-logs", "off"])
async def test_what_is_shown_of_builds(tmp_path: Path, pages: str) -> None:
    """Builds are shown as the operator wants it, from the state folder."""
    daemon = Daemon(tmp_path, NIXERY_PAGES=pages)
    await daemon.start()
    assert isinstance(daemon.endpoint.site, Site)
    assert (daemon.state / "history").is_dir()
    root: Any = daemon.endpoint.site.resource
    assert (root._builds is None) == (pages == "off")
    await daemon.stop()


def _moment() -> Deferred[None]:
    moment: Deferred[None] = Deferred()
    reactor.callLater(0.01, moment.callback, None)
    return moment


class EndingReactor:
    """What is asked of a reactor when the daemon can't run."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        """It never does."""

    def addSystemEventTrigger(self, *arguments: Any) -> None:
        self.asked.append(arguments)

    def stop(self) -> None:
        self.asked.append(("stop",))


@pytest_twisted.ensureDeferred
async def test_a_failed_start_ends_the_daemon() -> None:
    """Where nothing can be listened on, the daemon says why, and ends with exit code 1."""

    async def nothing() -> None:
        pass

    endpoint, ending = FakeEndpoint(), EndingReactor()
    endpoint.result = fail(OSError("it is in use"))
    phases = Phases(nothing, nothing, nothing, nothing, nothing)
    service = RegistryService(ending, [Served(endpoint, Factory())], phases, 1, {})
    with capturedLogs() as captured:
        service.startService()
    assert "cannot start: it is in use" in [formatEvent(event) for event in captured]
    assert ending.asked == [("after", "shutdown", os._exit, 1), ("stop",)]


SECRETS = {
    "GCS_SIGNING_KEY": "secret",
    "GOOGLE_APPLICATION_CREDENTIALS": "secret",
    "NIXERY_PKGS_REPO": "https://u:secret@h/",
    "NIX_POPULARITY_URL": "https://u:secret@h/",
    "NIXERY_ANYTHING_NEW": "secret",
    "LISTEN_FDS": "secret",
    "NOTIFY_SOCKET": "secret",
}


def test_secrets_do_not_reach_children() -> None:
    """Nix and git see nothing of what the daemon alone is to know, and all else."""
    kept = {"PATH": "/bin", "NIX_CONF_DIR": "/conf", "SSH_AUTH_SOCK": "/s", "HTTPS_PROXY": "p"}
    seen = child_environment({**SECRETS, **kept}, "/state")
    assert "secret" not in repr(seen)
    assert kept.items() <= seen.items()


def test_what_children_need() -> None:
    """Children have a home and a user where the daemon has none, are never prompted, and run
    nothing that a URL says, whatever the environment allows."""
    bare = child_environment({}, "/state")
    assert bare["HOME"] == "/state"
    assert bare["USER"]
    environ = {"HOME": "/h", "USER": "u", "GIT_ALLOW_PROTOCOL": "ext", "GIT_TERMINAL_PROMPT": "1"}
    seen = child_environment(environ, "/state")
    assert (seen["HOME"], seen["USER"]) == ("/h", "u")
    assert "ext" not in seen["GIT_ALLOW_PROTOCOL"].split(":")
    assert seen["GIT_TERMINAL_PROMPT"] == "0"


def test_make_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's service is the registry, and making it starts and writes nothing."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    options = Options()
    options.parseOptions(["--listen", "tcp:0:interface=127.0.0.1", "--pkgs-path", str(tmp_path)])
    service = makeService(options)
    assert isinstance(service, RegistryService)
    assert not (tmp_path / "state").exists()


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


def twistd(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``twistd nixery`` as an operator starts it from a checkout."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(TOP)}
    command = [TWISTD, "--nodaemon", "--pidfile=", "nixery", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**kept, **environ}, capture_output=True, text=True, timeout=60
    )


def test_check_from_outside(tmp_path: Path) -> None:
    """``twistd nixery --check`` prints what would run, writes nothing, and ends with 0."""
    ran = twistd(tmp_path, "--check", PORT="4321")
    assert ran.returncode == 0, ran.stderr
    assert "tcp:4321" in ran.stdout
    assert os.listdir(tmp_path) == []


def test_what_evaluation_may_do_is_told(tmp_path: Path) -> None:
    """``--check`` says how evaluation is confined, what it may fetch, what ``NIX_PATH`` adds."""
    source = {"NIXERY_PKGS_PATH": str(tmp_path)}
    allowed = {"NIXERY_ALLOWED_URIS": "https://a.example/ github:b/", "NIX_PATH": "lib=/srv/lib"}
    ran = twistd(tmp_path, "--check", **source, **allowed)
    [line] = [line for line in ran.stdout.splitlines() if line.startswith("evaluation ")]
    assert "confined to the package set" in line
    assert "https://a.example/, github:b/" in line
    assert line.endswith("lib=/srv/lib")
    assert OPEN in twistd(tmp_path, "--check", "--evaluation", "open", **source).stdout
    fault = twistd(tmp_path, "--check", "--allowed-uris", "file:///srv", **source)
    assert fault.returncode == 1
    assert "NIXERY_ALLOWED_URIS" in fault.stderr


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


def test_faults_from_outside(tmp_path: Path) -> None:
    """Broken settings end ``twistd`` with 1, a line for each on stderr, and no traceback."""
    ran = twistd(tmp_path, "--port", "x", NIX_TIMEOUT="never", NIXERY_LISTEN="nosuch:1")
    assert ran.returncode == 1
    assert [line.split()[1] for line in ran.stderr.splitlines()] == ["PORT", "NIX_TIMEOUT"]
    ran = twistd(tmp_path, NIXERY_LISTEN="nosuch:1")
    assert ran.returncode == 1
    assert [line.split()[1] for line in ran.stderr.splitlines()] == ["NIXERY_LISTEN"]


def test_check_of_a_good_bucket(tmp_path: Path) -> None:
    """``--check`` of a bucket that can be used ends with 0."""
    with fake_gcs_server(tmp_path / "gcs") as fake:
        ran = twistd(tmp_path, "--check", **fake.environ, NIXERY_STORAGE_REDIRECT="off")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "gs://images; clients get copies from here" in ran.stdout


def test_google_is_not_imported_in_vain() -> None:
    """Google's libraries, which take time and memory, are imported for a bucket alone."""
    program = "import sys, nixery.tap; print([m for m in sys.modules if m.startswith('google')])"
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    output = subprocess.check_output(command, text=True, env=environ)
    # A package that only holds others is made by the interpreter's own start.
    assert output.strip() in ("[]", "['google']")


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
    )
    assert ran.returncode == 1
    said = ran.stderr.splitlines()
    assert [line.split()[1].rstrip(":,") for line in said] == [
        "NIXERY_LISTEN",
        str(tmp_path / "users"),
        str(tmp_path / "rules"),
        "/no/such",
    ]


def test_check_says_what_may_be_named(tmp_path: Path) -> None:
    """``--check`` says which tags are served, and whether commits of others are."""
    some = "nixos-* [0-9a-f]*"
    for environ, said in (
        ({"NIXERY_PKGS_PATH": "/"}, "latest"),
        ({}, "latest"),
        ({"NIXERY_TAGS": some}, f"latest {some}; commits in the histories of these"),
        (
            {"NIXERY_TAGS": some, "NIXERY_UNREACHABLE_COMMITS": "on"},
            f"latest {some}; commits of pull requests and forks too",
        ),
    ):
        ran = twistd(tmp_path, "--check", **environ)
        assert f"tags         {said}\n" in ran.stdout


def test_check_warns_of_cheap_passwords(tmp_path: Path) -> None:
    """``--check`` names the users whose passwords are fast to guess, and ends with 0."""
    users = tmp_path / "users"
    for cost, said in ((5, True), (10, False)):
        users.write_text(f"alice:$2y${cost:02}${'a' * 53}\n")
        ran = twistd(tmp_path, "--check", NIXERY_HTPASSWD=str(users))
        assert ran.returncode == 0
        warned = f"nixery: warning: {users}: bcrypt cost below 10" in ran.stderr
        assert (warned, "'alice'" in ran.stderr) == (said, said)


def test_check_says_who_may_pull(tmp_path: Path) -> None:
    """``--check`` says by what users are known."""
    (tmp_path / "users").write_text("")
    assert "may pull     everybody" in twistd(tmp_path, "--check").stdout
    ran = twistd(tmp_path, "--check", NIXERY_HTPASSWD=str(tmp_path / "users"))
    assert "may pull     users with passwords" in ran.stdout


@pytest.mark.parametrize(
    ("endpoint", "becomes"),
    [
        ("tcp:8080", "tcp:8080:backlog=4096"),
        (r"tcp6:80:interface=\:\:1", r"tcp6:80:interface=\:\:1:backlog=4096"),
        ("unix:/run/nixery", "unix:/run/nixery:backlog=4096"),
        ("tcp:8080:backlog=7", "tcp:8080:backlog=7"),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0"),
    ],
)
def test_backlog(endpoint: str, becomes: str) -> None:
    """Many may connect at once, unless the operator has said how many; the string stays valid."""
    assert with_backlog(endpoint) == becomes
    if not endpoint.startswith("systemd"):
        serverFromString(reactor, becomes)
