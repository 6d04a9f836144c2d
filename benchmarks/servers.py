"""The servers that are measured side by side, and the image that all of them serve."""

import hashlib
import http.client
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import attrs
import psutil

from tests.e2e.daemon import ACCEPT
from tests.e2e.packages import KEPT, TOP, PackageSet, alone
from tests.e2e.strangers import ALLOCATOR
from tests.ports import free_port
from tests.waiting import HUNG

NAME = "bench"
SMALL, LARGE = 9_000, 46_000_000
"""About so many bytes have the layers that are asked for."""
_PARTS = 80
_LOOK, _IDLE = 0.5, 0.02
"""Of so many seconds, a server that has nothing to do takes no more of a processor."""
_SET = """
{{ system ? builtins.currentSystem, ... }}:
let
  usual = import {usual} {{ inherit system; }};
  # Bytes that don't compress, the same each time.
  write = seed: size: ''
    import os, random
    with open(os.environ["out"], "wb") as file:
        file.write(random.Random(${{toString seed}}).randbytes(${{toString size}}))
  '';
  noise = number: size: derivation {{
    name = "noise-${{toString number}}"; inherit system; builder = "${{usual.python3}}/bin/python3";
    args = [ "-c" (write number size) ];
  }};
in usual // {{
  {name} = derivation {{
    name = "{name}-1.0"; inherit system; builder = "/bin/sh";
    parts = [ (noise 0 {large}) ] ++ builtins.genList (n: noise (n + 1) {small}) {parts};
    args = [ "-euc" "/bin/mkdir -p $out/share; echo $parts > $out/share/parts; exit 0" ];
  }};
}}
"""
_NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 1024; }}
http {{
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  access_log {folder}/log;
  default_type {manifest};
  client_body_temp_path {folder}/temporary;
  proxy_temp_path {folder}/temporary;
  fastcgi_temp_path {folder}/temporary;
  uwsgi_temp_path {folder}/temporary;
  scgi_temp_path {folder}/temporary;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}/root; }}
}}
"""
_REGISTRY = """
version: 0.1
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: "{folder}"}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def bench_set(usual: PackageSet, folder: Path) -> dict[str, str]:
    """Settings for a set with the image: some eighty small layers, and a large one.

    :param folder: to make the set in.
    """
    folder.mkdir()
    text = _SET.format(usual=usual.folder, name=NAME, parts=_PARTS, small=SMALL, large=LARGE)
    (folder / "default.nix").write_text(text)
    return {**usual.environ, "NIXERY_PKGS_PATH": str(folder)}


@attrs.frozen
class Blob:
    """A blob as a manifest names it."""

    digest: str
    size: int

    @property
    def path(self) -> str:
        return f"/v2/{NAME}/blobs/{self.digest}"


@attrs.frozen
class BenchImage:
    """An image as a server has it.

    :param blobs: config and layers.
    """

    manifest: bytes
    blobs: tuple[Blob, ...]

    @classmethod
    def read(cls, manifest: bytes) -> "BenchImage":
        document = json.loads(manifest)
        named = [document["config"], *document["layers"]]
        return cls(manifest, tuple(Blob(each["digest"], each["size"]) for each in named))

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"

    def like(self, size: int) -> Blob:
        """The layer whose size is nearest."""
        return min(self.blobs[1:], key=lambda blob: abs(blob.size - size))


@attrs.define(slots=False)
class Server:
    """A server that runs.

    :param first_answer: seconds from its start until it answered.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    port: int
    first_answer: float

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Ask on a new connection.

        :return: status, where a redirect leads to, and body.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        try:
            connection.request("GET", path, headers={"Accept": ACCEPT})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read()
        finally:
            connection.close()

    def verified(self, blob: Blob) -> bytes:
        """A blob, which has to be the right one."""
        status, _, content = self.get(blob.path)
        assert status == 200, f"{self.name}: {status} for {blob.path}"
        assert blob.digest == f"sha256:{hashlib.sha256(content).hexdigest()}", self.name
        return content

    @cached_property
    def image(self) -> BenchImage:
        """The image, which is made unless it is known."""
        path = f"/v2/{NAME}/manifests/latest"
        while (answer := self.get(path))[0] == 307:
            path = answer[1]
        assert answer[0] == 200, f"{self.name}: {answer}"
        return BenchImage.read(answer[2])

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor time that it and its children have used, also those that ended."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def settle(self) -> None:
        """Wait until it has done what it does once after a start."""
        before = -1.0
        while (now := self.cpu()) - before > _IDLE:
            before = now
            time.sleep(_LOOK)

    def memory(self) -> float:
        """MB of it and its children; pages that several have are divided among them."""
        total = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss / 1e6
        return total


@attrs.frozen
class Kind:
    """How a server is started.

    :param port: where it listens, which its command or environment tells it.
    """

    name: str
    command: Sequence[str]
    port: int
    environ: Mapping[str, str] = attrs.Factory(dict)

    @contextmanager
    def running(self, log: Path) -> Iterator[Server]:
        """Have it run for the length of a block."""
        # A daemon starts from bytecode, wherever it is installed.
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **self.environ}
        began = time.perf_counter()
        with log.open("ab") as file:
            process = subprocess.Popen(self.command, cwd="/", env=environ, stdout=file, stderr=file)
        try:
            server = Server(self.name, process, self.port, 0.0)
            while not _answers(server):
                assert process.poll() is None, log.read_text(errors="replace")
                time.sleep(0.002)
            server.first_answer = time.perf_counter() - began
            yield server
        finally:
            process.terminate()
            try:
                process.wait(timeout=HUNG)
            finally:
                process.kill()


def _answers(server: Server) -> bool:
    try:
        return bool(server.get("/v2/"))
    except (ConnectionError, http.client.HTTPException):
        return False


def daemon(name: str, tree: Path, state: Path, settings: Mapping[str, str]) -> Kind:
    """The daemon of a work tree with a virtual environment."""
    port = free_port()
    environ = {
        "STATE_DIRECTORY": str(state),
        "PORT": str(port),
        "NIXERY_DRAIN": "1",
        "NIXERY_NIX_MIN_FREE": "0",
        **ALLOCATOR,
        **settings,
    }
    twistd = str(tree / ".venv" / "bin" / "twistd")
    return Kind(name, [twistd, "--nodaemon", "--pidfile=", "nixery"], port, environ)


def nginx(folder: Path, image: BenchImage, blobs: Mapping[str, bytes]) -> Kind:
    """nginx with the image's documents as files."""
    root, port = folder / "root" / "v2" / NAME, free_port()
    (root / "manifests").mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "manifests" / "latest").write_bytes(image.manifest)
    for digest, content in blobs.items():
        (root / "blobs" / digest).write_bytes(content)
    file = folder / "nginx.conf"
    file.write_text(_NGINX.format(folder=folder, manifest=ACCEPT, port=port))
    return Kind("nginx", ["nginx", "-c", str(file)], port)


def registry(folder: Path, image: BenchImage, blobs: Mapping[str, bytes]) -> Kind:
    """docker-registry with the image in its storage, as a push would have left it."""
    top, port = folder / "docker" / "registry" / "v2", free_port()
    for digest, content in {**blobs, image.digest: image.manifest}.items():
        algorithm, _, digits = digest.partition(":")
        data = top / "blobs" / algorithm / digits[:2] / digits / "data"
        data.parent.mkdir(parents=True)
        data.write_bytes(content)
        _link(top / "repositories" / NAME / "_layers" / algorithm / digits, digest)
    manifests = top / "repositories" / NAME / "_manifests"
    _link(manifests / "revisions" / image.digest.replace(":", "/"), image.digest)
    _link(manifests / "tags" / "latest" / "current", image.digest)
    file = folder / "config.yml"
    file.write_text(_REGISTRY.format(folder=folder, port=port))
    return Kind("docker-registry", ["docker-registry", "serve", str(file)], port)


def _link(folder: Path, digest: str) -> None:
    folder.mkdir(parents=True)
    (folder / "link").write_text(digest)


def tree_of(commit: str) -> Path:
    """A commit's files with a virtual environment of their own, which are kept for another run."""
    asked = ["git", "-C", str(TOP), "rev-parse", "--short=12", f"{commit}^{{commit}}"]
    name = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    folder = KEPT / f"beside-{name}"
    with alone(folder.name):
        if not (folder / ".made").exists():
            archive = ["git", "-C", str(TOP), "archive", name]
            files = subprocess.run(archive, check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(files)) as tar:
                tar.extractall(folder, filter="data")
            subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
            pip = [str(folder / ".venv/bin/pip"), "install", "-qqq", "--editable", str(folder)]
            subprocess.run(pip, check=True)
            (folder / ".made").touch()
    return folder
