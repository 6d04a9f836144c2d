"""nginx in front, as docs/nginx.md has it."""

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Answer, Daemon
from tests.e2e.nginx import serving
from tests.examples import blocks, moved, settings
from tests.ports import free_port
from tests.waiting import HUNG
from tests.web.multipart import read_parts

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

SETTINGS = settings("nginx")
(SITE,) = blocks("nginx", "nginx")


@contextmanager
def nginx(daemon: Daemon, folder: Path) -> Iterator[int]:
    """nginx in front of a daemon, and its port, for the length of a block."""
    port = free_port()
    places = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "127.0.0.1:8080": f"127.0.0.1:{daemon.port}",
        "/var/lib/nixery/storage/layers/": f"{daemon.storage}/layers/",
    }
    with serving(moved(SITE, places), folder):
        yield port


def ask(port: int, path: str, method: str = "GET", **headers: str) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG)
    try:
        connection.request(method, path, headers=names)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, answer.reason, found, answer.read())
    finally:
        connection.close()


def of_blobs(headers: Mapping[str, str]) -> dict[str, str | None]:
    """The headers that describe a blob."""
    names = ("content-type", "content-length", "accept-ranges", "etag", "docker-content-digest")
    return {
        name: headers.get(name)
        for name in (*names, "content-range", "docker-distribution-api-version", "last-modified")
    }


def test_nginx_sends_blobs(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """With the page's configuration, images can be pulled, of which nginx sends the blobs, with the
    headers that Nixery would send; nobody else gets at them."""
    daemon = start_daemon(**SETTINGS)
    with nginx(daemon, tmp_path / "nginx") as port:
        source = f"docker://localhost:{port}/hello"
        ran = run(["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/copy"])
        assert ran.code == 0, ran.output
        layer = max((tmp_path / "copy").iterdir(), key=lambda file: file.stat().st_size)
        content = layer.read_bytes()
        digest = f"sha256:{sha256(content).hexdigest()}"
        path = f"/v2/hello/blobs/{digest}"

        handed = daemon.get(path)
        assert handed.headers["X-Accel-Redirect"] == f"/_blobs/{digest[7:]}"
        assert handed.body == b""
        assert daemon.metric('nixery_http_sent_bytes_total{kind="blob"}') == 0
        assert ask(port, f"/_blobs/{digest[7:]}").status == 404

        whole, head = ask(port, path), ask(port, path, "HEAD")
        assert (whole.status, whole.body, head.status) == (200, content, 200)
        described = of_blobs(head.headers)
        assert of_blobs(whole.headers) == described
        assert described["docker-content-digest"] == digest
        assert described["last-modified"] is None
        assert "x-accel-redirect" not in whole.headers
        assert whole.headers["x-request-id"]

        part = ask(port, path, Range="bytes=5-99", If_Range=f'"{digest}"')
        assert (part.status, part.body) == (206, content[5:100])
        assert part.headers["content-range"] == f"bytes 5-99/{len(content)}"
        assert ask(port, path, Range="bytes=5-99", If_Range='"other"').status == 200
        parts = ask(port, path, Range="bytes=0-0,7-8")
        # nginx has an empty line in front.
        found = read_parts(parts.headers["content-type"], parts.body.removeprefix(b"\r\n"))
        assert [each[-1] for each in found] == [content[:1], content[7:9]]
        assert ask(port, path, Range=f"bytes={len(content)}-").status == 416
        assert ask(port, path.replace(digest[-8:], "0" * 8)).status == 404
