"""The API, webhooks and builds in advance, with a real daemon, git server and curl."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.git_servers import git_over_http
from tests.repository import Repository
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
NAMES = ("one", "two", "three", "four")
SECRET = "a-secret-of-the-forge"
HOOK = "#!/bin/sh\ncurl -sS --fail -X POST -H 'Authorization: Bearer {}' {}/hooks/source\n"
PACKAGE = """
  NAME = derivation {
    name = "NAME-VERSION"; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir -p $out/bin; echo NAME VERSION > $out/bin/NAME; exit 0" ];
  };
"""


def package_set(version: str) -> str:
    """A set of four packages."""
    packages = (PACKAGE.replace("NAME", name).replace("VERSION", version) for name in NAMES)
    return f"{{ {''.join(packages)} }}"


def built(daemon: Daemon) -> list[str]:
    """The images that were made, the first one first."""
    builds = daemon.get("/builds?n=1000").json()
    return [build["name"] for build in reversed(builds) if build["state"] == "done"]


def operator(daemon: Daemon) -> str:
    return f"Bearer {(daemon.state / 'api-token').read_text().strip()}"


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of notifications: its URL, and what it got."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_push_makes_what_is_pulled_most(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A push to the source's git server has the three images made that were pulled most, before
    anybody asks for one; a pull of these builds nothing, and the receiver was told of each."""
    bare, tree = tmp_path / "set.git", Repository(tmp_path / "tree")
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    tree.commit(package_set("1"))
    tree.git("push", "-q", str(bare), "main")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with git_over_http(tmp_path) as server, receiver() as (url, received):
        daemon = start_daemon(
            NIXERY_PKGS_PATH="",
            NIXERY_PKGS_REPO=server.url("set.git"),
            NIXERY_REVISION_TTL="3600",
            NIXERY_PREBUILD="most-pulled:3",
            NIXERY_WEBHOOK_SECRET_FILE=str(secret),
            NIXERY_NOTIFY_URL=url,
        )
        for times, name in enumerate(NAMES):
            for _ in range(times + 1):
                assert daemon.pull(name).status == 200
        before = built(daemon)
        assert sorted(before) == sorted(NAMES)
        hook = bare / "hooks" / "post-receive"
        hook.write_text(HOOK.format(SECRET, f"http://{daemon.host}"))
        hook.chmod(0o755)
        commit = tree.commit(package_set("2"))
        tree.git("push", "-q", str(bare), "main")
        wait_until(lambda: len(built(daemon)) == len(before) + 3)
        assert built(daemon)[len(before) :] == ["four", "three", "two"]
        nix_builds = daemon.nix_builds
        for name in ("two", "three", "four"):
            answer = daemon.pull(name)
            assert (answer.status, answer.headers["Nixery-Revision"]) == (200, commit)
        assert daemon.nix_builds == nix_builds
        assert daemon.pull("one").headers["Nixery-Revision"] == commit
        assert daemon.nix_builds == nix_builds + 1
        wait_until(lambda: len(received) == len(built(daemon)))
        assert {event["type"] for event in received} == {"nixery.image.built"}
        assert [event["data"]["name"] for event in received] == built(daemon)
        assert "Traceback" not in daemon.log


def test_the_page(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """All commands of the page on the API work as they stand there, one after the other."""
    secret = tmp_path / "webhook-secret"
    secret.write_text(SECRET)
    daemon = start_daemon(
        state=tmp_path / ".local" / "state" / "nixery", NIXERY_WEBHOOK_SECRET_FILE=str(secret)
    )
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    made = 'until curl -sSf -o /dev/null -H "Authorization: Bearer $TOKEN" '
    made += '"$HOST/api/images/shell/git:latest"; do sleep 0.1; done\n'
    blocks.insert(2, made)  # until the build has ended
    script = "\n".join(block.replace("localhost:8080", daemon.host) for block in blocks)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"build": "' in done.stdout
    assert '"name": "shell/git"' in done.stdout
    assert "git:latest" not in {f"{each['name']}:{each['tag']}" for each in listed(daemon)}


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = daemon.get("/api/images", Authorization=operator(daemon)).json()[
        "images"
    ]
    return images


def test_removed_amid_a_pull(start_daemon: StartDaemon) -> None:
    """Who has the manifest of an image that is removed gets all its blobs; who asks for its name
    gets it made anew, with the same digest; when the daemon has stopped, its address is gone."""
    daemon = start_daemon()
    own = operator(daemon)
    answer = daemon.pull("jq")
    manifest, digest = answer.json(), answer.headers["Docker-Content-Digest"]
    assert daemon.get(f"/api/images/@{digest}", "DELETE", Authorization=own).status == 204
    assert daemon.get(f"/v2/jq/manifests/{digest}").status == 404
    for blob in (manifest["config"], *manifest["layers"]):
        assert daemon.get(f"/v2/jq/blobs/{blob['digest']}").status == 200
    assert daemon.get(f"/api/images/@{digest}", "DELETE", Authorization=own).status == 404
    again = daemon.pull("jq")
    assert again.headers["Docker-Content-Digest"] == digest
    assert [each["name"] for each in listed(daemon)] == ["jq"]
    (image,) = listed(daemon)
    assert image["pulls"] >= 1
    one = daemon.get(f"/api/images/jq@{digest}", Authorization=own).json()
    assert "jq" in {package["package"] for package in one["contents"]["packages"]}
    address = daemon.state / "api-address"
    assert address.read_text() == f"http://{daemon.host}\n"
    daemon.stop()
    assert not address.exists()
