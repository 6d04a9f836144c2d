"""All parts put together, without a network: the endpoint is a fake."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from nixery.daemon import make_service
from nixery.http.listening import Listening
from nixery.http.routes import NOWHERE
from nixery.model.service_errors import StorageUnavailable
from nixery.service import RegistryService
from nixery.settings import Settings
from tests.endpoints import FakeEndpoint
from tests.http.test_routes import asked
from tests.waiting import lives

reactor: Any = _reactor


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
async def test_responders_start_and_stop(tmp_path: Path) -> None:
    """The processes beside the daemon are there while it listens, and not when it has stopped."""
    daemon = Daemon(tmp_path, NIXERY_WORKERS="3")
    await daemon.start()
    registry: Any = daemon.service._registry
    assert len(registry._responders.pids) == 2
    processes = [psutil.Process(pid) for pid in registry._responders.pids]
    await daemon.stop()
    assert not any(map(lives, processes))


def test_one_process_loads_nothing_for_several() -> None:
    """By default, what several processes need is not even imported."""
    code = (
        "import sys, nixery.tap; "
        "wanted = ('nixery.serving', 'nixery.http.lending'); "
        "print([name for name in sys.modules if name.startswith(wanted)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
    route, _ = root._routes.find(asked(b"/builds"))
    assert (route is NOWHERE) == (pages == "off")
    await daemon.stop()


def _moment() -> Deferred[None]:
    moment: Deferred[None] = Deferred()
    reactor.callLater(0.01, moment.callback, None)
    return moment
