"""moto's server, which others test with: a program of its own, for end-to-end tests."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.s3.service import S3Service, service_at
from tests.waiting import HUNG

KEY = {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def moto_server(folder: Path, bucket: str = "images") -> Iterator[S3Service]:
    """Run one until the block ends.

    :param folder: gets its log.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield service_at(f"http://127.0.0.1:{port}", bucket, process, KEY, folder / "log")
    finally:
        process.terminate()
        process.wait(timeout=HUNG)
