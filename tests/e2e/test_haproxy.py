"""HAProxy in front of two instances, as docs/haproxy.md has it."""

import csv
import http.client
import io
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.examples import blocks, moved, settings
from tests.ports import free_port
from tests.waiting import HUNG, wait_until
from tests.web.certificates import make_pair

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

PAGE = "haproxy"
(CONFIGURATION,) = blocks(PAGE, "haproxy")
SETTINGS = settings(PAGE)


class Front:
    """HAProxy, as it runs."""

    def __init__(self, port: int, statistics: Path) -> None:
        self.port, self._statistics = port, statistics

    def states(self) -> dict[str, tuple[str, str]]:
        """How it finds each server: the state, and what the last check got."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(os.path.relpath(self._statistics))
            asked.sendall(b"show stat\n")
            told = b"".join(iter(lambda: asked.recv(1 << 16), b"")).decode()
        rows = csv.DictReader(io.StringIO(told.removeprefix("# ")))
        return {
            row["svname"]: (row["status"], row["check_code"])
            for row in rows
            if row["pxname"] == "nixery" and row["svname"] not in ("BACKEND", "FRONTEND")
        }


@contextmanager
def haproxy(first: Daemon, second: Daemon, folder: Path) -> Iterator[Front]:
    """HAProxy with the page's configuration, for the length of a block."""
    folder.mkdir()
    port, statistics, pair = free_port(), folder / "stats", make_pair(folder)
    pem = Path(pair.certificate).read_text() + Path(pair.key).read_text()
    (folder / "registry.pem").write_text(pem)
    places = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "/etc/haproxy": folder,
        "192.0.2.1:8080": f"127.0.0.1:{first.port}",
        "192.0.2.2:8080": f"127.0.0.1:{second.port}",
        "inter 2s": "inter 200ms",
        "maxconn 4000": f"maxconn 100\n    stats socket {statistics}",
    }
    configuration = folder / "haproxy.cfg"
    configuration.write_text(moved(CONFIGURATION, places))
    checked = run(["/usr/sbin/haproxy", "-c", "-f", str(configuration)])
    assert checked.code == 0, checked.output
    assert "warning" not in checked.output.lower(), checked.output
    process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(configuration)])
    try:
        wait_until(statistics.exists)
        yield Front(port, statistics)
    finally:
        process.terminate()
        process.wait(timeout=HUNG)


def test_two_instances(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Both are found well, by checks in HTTP/1.0; images are pulled through TLS, by clients whose
    addresses are known; while one is stopped, the other serves, which has the same images."""
    environ = {
        **SETTINGS,
        "NIXERY_TRUSTED_PROXIES": "127.0.0.1",
        "STORAGE_PATH": str(tmp_path / "storage"),
    }
    assert SETTINGS.keys() == {"NIXERY_TRUSTED_PROXIES", "NIXERY_HANDOVER"}
    first, second = [start_daemon(state=tmp_path / name, **environ) for name in ("1", "2")]
    with haproxy(first, second, tmp_path / "haproxy") as front:
        well = ("UP", "200")
        wait_until(lambda: front.states() == {"first": well, "second": well})
        image = f"docker://localhost:{front.port}/hello"
        pull = ["skopeo", "copy", "--src-tls-verify=false", image, f"dir:{tmp_path}/copy"]
        ran = run(pull)
        assert ran.code == 0, ran.output
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            front.port,
            timeout=HUNG,
            source_address=("127.0.0.3", 0),
            context=_trusting(),
        )
        connection.request("GET", "/v2/nosuchpackage/manifests/latest")
        refused = connection.getresponse().read().decode()
        assert f"https://127.0.0.1:{front.port}/builds/" in refused
        connection.close()
        wait_until(lambda: " for 127.0.0.3: " in first.log + second.log)
        assert first.stop(signal.SIGTERM) == 0
        assert run(pull).code == 0
        wait_until(lambda: front.states()["first"][0] == "DOWN")
        assert front.states()["second"] == well
        assert run(pull).code == 0
        assert first.nix_builds + second.nix_builds <= 2  # hello, and what is not there


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
