# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage in a bucket of S3: the contract, on a server that verifies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.backend import run
from tests.storage.contract import StorageContract
from tests.storage.s3_place import S3Place, s3_place


class TestS3(StorageContract):
    """On the server that verifies signatures, digests, conditions and checksums."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
        context = s3_place(tmp_path, monkeypatch.setenv)
        yield run(context.__aenter__())
        run(context.__aexit__(None, None, None))
