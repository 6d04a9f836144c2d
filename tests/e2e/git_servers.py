"""Git servers on this machine: over HTTP by git's own CGI program, over SSH by Debian's sshd."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs

from tests.e2e.packages import KEPT, TOP, alone
from tests.ports import free_port
from tests.waiting import HUNG, wait_until

CREDENTIALS = "dXNlcjpzZWNyZXQ="  # user:secret


class _GitHandler(BaseHTTPRequestHandler):
    """Runs ``git http-backend`` for the folder of its server."""

    protocol_version = "HTTP/1.1"
    server: "_GitHttpServer"

    def do_GET(self) -> None:
        mode = self.server.mode
        if mode == "hang":
            self.server.released.wait(HUNG)
            self.close_connection = True
        elif mode == "redirect":
            self._answer(302, [("Location", self.path + "x")], b"")
        elif self.headers.get("Authorization", "") != self.server.wanted:
            self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
        else:
            self._run_backend()

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _run_backend(self) -> None:
        path, _, query = self.path.partition("?")
        environ = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # It fails after an answer that says why.
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environ, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((int(text[:3]) for name, text in fields if name == "Status"), 200)
        self._answer(status, [(n, text) for n, text in fields if n != "Status"], content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _GitHttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _GitHandler)
        self.folder = folder
        self.mode = "serve"
        self.wanted = ""
        self.released = threading.Event()


@attrs.frozen
class GitHttp:
    """A running HTTP server of the repositories in a folder."""

    server: _GitHttpServer

    def url(self, name: str, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.server.server_port}/{name}"

    def turn(self, mode: str) -> None:
        """Have it ``serve``, ``hang`` or ``redirect`` without end."""
        self.server.mode = mode

    def want_credentials(self) -> None:
        """Answer only who says that he is ``user`` with the password ``secret``."""
        self.server.wanted = f"Basic {CREDENTIALS}"


@contextmanager
def git_over_http(folder: Path) -> Iterator[GitHttp]:
    """Serve the repositories in a folder."""
    server = _GitHttpServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield GitHttp(server)
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@attrs.frozen
class GitSsh:
    """A running sshd that lets one key in.

    :param command: what git starts in ssh's place: with that key, and this server's.
    """

    port: int
    command: str

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


@contextmanager
def git_over_ssh(folder: Path) -> Iterator[GitSsh]:
    """Run Debian's sshd, with keys of its own, as the user of the tests."""
    for name in ("host", "user"):
        key = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(key, check=True)
    port = free_port()
    host_key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    config = folder / "sshd_config"
    config.write_text(
        f"""
        ListenAddress 127.0.0.1:{port}
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/user.pub
        PidFile {folder}/pid
        StrictModes no
        UsePAM no
        PasswordAuthentication no
        AcceptEnv GIT_PROTOCOL
        """
    )
    options = f"-i {folder}/user -o UserKnownHostsFile={folder}/known -o IdentitiesOnly=yes"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*_sshd(folder), "-D", "-e", "-f", str(config)], stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield GitSsh(port, f"ssh -F none -o BatchMode=yes {options}")
    finally:
        process.terminate()
        process.wait(timeout=HUNG)


def _unpack(unpacked: Path) -> None:
    """Load the program's packages, unless they are here since an earlier run."""
    if not unpacked.exists():
        sys.path.insert(0, str(TOP / "nix" / "debian"))
        from apt import Apt

        new = KEPT / "sshd.new"
        shutil.rmtree(new, ignore_errors=True)
        debs = new / "debs"
        debs.mkdir(parents=True)
        apt = Apt(KEPT / "apt", _output("dpkg", "--print-architecture"))
        for file in apt.download(apt.update(["openssh-server"]), debs):
            if file.name.startswith(("openssh-server_", "libwrap0")):
                deb = str(debs / file.name)
                subprocess.run(["dpkg-deb", "-x", deb, str(new)], check=True)
        new.rename(unpacked)


def _sshd(folder: Path) -> list[str]:
    """The program, unpacked but not installed: no machine gets an SSH server from running tests."""
    unpacked = KEPT / "sshd"
    with alone("sshd"):
        _unpack(unpacked)
    program = unpacked / "usr" / "sbin" / "sshd"
    libraries = ":".join(str(path) for path in (unpacked / "usr" / "lib").glob("*-linux-gnu"))
    start = ["env", f"LD_LIBRARY_PATH={libraries}", str(program)]
    if os.getuid() != 0:
        return start
    # As root it wants a user and a folder that its package would have made.
    users = folder / "passwd"
    users.write_text(Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/:/usr/sbin/nologin\n")
    script = (
        f"mount --bind {users} /etc/passwd && mount -t tmpfs none /run && "
        'mkdir -m 755 /run/sshd && exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh", *start]


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
