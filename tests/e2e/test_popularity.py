"""The popularity table: made from a package set, and used for grouping its layers."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.packages import PackageSet

pytestmark = pytest.mark.real_nix

NIXERY = str(Path(sys.executable).with_name("nixery"))


def test_a_table_of_the_package_set(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """``nixery popcount`` counts what is in the store, and the daemon groups by its table; a copy
    serves while the table can't be reached."""
    start_daemon().pull("shell/git")
    counted = run([NIXERY, "popcount"], **package_set.environ)
    assert counted.code == 0, counted.output
    said, _, printed = counted.output.partition("{")
    # No evaluation survives these.
    assert "left out, since they can't be evaluated: abortEval, " in said
    table = json.loads("{" + printed)
    assert max(table, key=table.__getitem__).startswith("libc6-")
    file = tmp_path / "table.json"
    file.write_text(json.dumps(table))

    state = tmp_path / "grouped"
    settings = {"NIX_POPULARITY_URL": f"file://{file}", "NIXERY_LAYER_BUDGET": "12"}
    grouped = start_daemon(state=state, **settings).pull("shell/git")
    assert len(grouped.json()["layers"]) <= 12
    plain = start_daemon(state=tmp_path / "plain", NIXERY_LAYER_BUDGET="12").pull("shell/git")
    assert plain.body != grouped.body
    file.unlink()
    again = start_daemon(state=state, **settings)
    for blob in (state / "storage" / "manifests").iterdir():
        blob.unlink()
    assert again.pull("shell/git").body == grouped.body


@pytest.mark.parametrize("url", ["file:///no/such/table", "http://127.0.0.1:1/table"])
def test_a_table_that_cannot_be_read(start_daemon: StartDaemon, url: str) -> None:
    """A table that is neither there nor was there before stops the start, and that is said."""
    with pytest.raises(AssertionError, match="popularity table"):
        start_daemon(NIX_POPULARITY_URL=url)


def test_a_server_that_stalls(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A server that sends headers and a byte, and then nothing, does not keep the daemon from
    starting with the copy that it has of the table."""
    copy = tmp_path / "state" / "popularity.json"
    copy.parent.mkdir()
    copy.write_text("{}")
    with stalling() as url:
        daemon = start_daemon(NIX_POPULARITY_URL=url)
        assert "its copy is used" in daemon.log
        assert daemon.get("/healthz").status == 200


@contextmanager
def stalling() -> Iterator[str]:
    """A server that begins every answer and ends none."""
    headers = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    taken: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                taken.append(listening.accept()[0])
                taken[-1].sendall(headers)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/table"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()
