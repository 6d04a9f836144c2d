"""All parts put together, without a network: the endpoint is a fake."""

import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nixery.daemon import make_service
from nixery.http.listening import Listening
from nixery.lifecycle import InOrder
from nixery.model.errors import StorageUnavailable
from nixery.nix_parts import child_environment
from nixery.service import RegistryService, SiteAt
from nixery.settings import Settings
from nixery.tap import Options, makeService

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
        environ = {
            "STATE_DIRECTORY": str(self.state),
            "NIXERY_NIX_STORE": str(folder / "nix"),
            "NIXERY_PKGS_PATH": str(folder),
            **environ,
        }
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
    assert "listening on localhost:4321" in [formatEvent(event) for event in captured]
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
    assert not [event for event in captured if "listening" in formatEvent(event)]


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


class Parts:
    """A registry whose parts do nothing but look whether all is ready."""

    def __init__(self, look: Callable[[], Coroutine[Any, Any, str | None]] | None) -> None:
        self.parts = InOrder()
        self._look = look

    async def look(self) -> str | None:
        assert self._look is not None, "it does not get so far"
        return await self._look()

    async def reload(self) -> None:
        """There is nothing to read."""

    async def release(self) -> None:
        """There is nobody."""

    async def drain(self) -> None:
        """There is nobody."""


class EndingReactor:
    """What is asked of a reactor when the daemon can't run."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def seconds(self) -> float:
        """It is always the beginning."""
        return 0.0

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        """It never does."""

    def addSystemEventTrigger(self, *arguments: Any) -> None:
        self.asked.append(arguments)

    def stop(self) -> None:
        self.asked.append(("stop",))


@pytest_twisted.ensureDeferred
async def test_a_failed_start_ends_the_daemon() -> None:
    """Where nothing can be listened on, the daemon says why, and ends with exit code 1."""

    endpoint, ending = FakeEndpoint(), EndingReactor()
    endpoint.result = fail(OSError("it is in use"))
    service = RegistryService(ending, [SiteAt(endpoint, Factory())], Parts(None), 1, {})
    with capturedLogs() as captured:
        service.startService()
    assert "cannot start: it is in use" in [formatEvent(event) for event in captured]
    assert ending.asked == [("after", "shutdown", os._exit, 1), ("stop",)]


def service_that_looks(look: Callable[[], Coroutine[Any, Any, str | None]]) -> RegistryService:
    return RegistryService(reactor, [SiteAt(FakeEndpoint(), Factory())], Parts(look), 1, {})


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("shell/jq", "ready; try: docker pull localhost:4321/shell/jq"),
        (None, "ready"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_ready(image: str | None, said: str) -> None:
    """The daemon is said to be ready when that is known, with an image to try if there is one; it
    listens before."""
    known: Deferred[None] = Deferred()

    async def look() -> str | None:
        await known
        return image

    service = service_that_looks(look)
    with capturedLogs() as captured:
        service.startService()
        assert service.started is not None
        await service.started
        assert [formatEvent(event) for event in captured] == ["listening on localhost:4321"]
        known.callback(None)
    assert formatEvent(captured[-1]) == said
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_stopped_before_it_is_ready() -> None:
    """A daemon that is stopped looks no more, and that is no fault; one that never gets ready is
    not said to be."""
    given_up: list[object] = []

    async def look() -> str | None:
        await Deferred(given_up.append)
        return "shell/jq"

    service = service_that_looks(look)
    with capturedLogs() as captured:
        service.startService()
        assert service.started is not None
        await service.started
        await service.stopService()
    assert len(given_up) == 1
    assert [formatEvent(event) for event in captured] == ["listening on localhost:4321"]


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


def test_google_is_not_imported_in_vain() -> None:
    """Google's libraries, which take time and memory, are imported for a bucket alone."""
    program = "import sys, nixery.tap; print([m for m in sys.modules if m.startswith('google')])"
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "PYTHONPATH": str(TOP)}
    output = subprocess.check_output(command, text=True, env=environ)
    # A package that only holds others is made by the interpreter's own start.
    assert output.strip() in ("[]", "['google']")
