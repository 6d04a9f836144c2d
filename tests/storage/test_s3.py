# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage in a bucket of S3: the contract, on a server that verifies and on moto's."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.web.client import Agent, HTTPConnectionPool

from nixery.interfaces import Location
from nixery.model.digest import Digest
from nixery.storage.objects.aws_access import AwsProfile
from nixery.storage.objects.object_storage import ObjectStorage
from nixery.storage.objects.s3 import S3Store
from nixery.storage.objects.s3_requests import S3Bucket, S3Requests
from tests.s3.moto import S3Service, moto_server
from tests.storage.backend import run, store
from tests.storage.bucket_place import OPTIONS, load
from tests.storage.contract import StorageContract
from tests.storage.s3_place import S3Place, s3_place
from tests.waiting import until

reactor: Any = _reactor

PART = 5 * 1024 * 1024
"""Bytes: the least that S3 takes."""


class TestS3(StorageContract):
    """On the server that verifies signatures, digests, conditions and checksums."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
        context = s3_place(tmp_path, monkeypatch.setenv)
        yield run(context.__aenter__())
        run(context.__aexit__(None, None, None))


class MotoBackend:
    """The bucket of a service that does not tell whether it is asked well."""

    def __init__(self, service: S3Service) -> None:
        self._service = service
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor))
        self._made: list[ObjectStorage] = []

    async def open(self) -> ObjectStorage:
        requests = S3Requests(reactor, self._agent, S3Bucket(self._service.bucket), AwsProfile({}))
        options = attrs.evolve(OPTIONS, uploads=attrs.evolve(OPTIONS.uploads, part=PART))
        storage = ObjectStorage(reactor, S3Store(reactor, requests), options)
        self._made.append(storage)
        before = self._cleanings()
        await storage.start()
        # moto says of each upload that it is of 2010: so it is as old as what is dropped.
        await until(lambda: self._cleanings() > before)
        return storage

    def _cleanings(self) -> int:
        return self._service.log.read_text().count("uploads=&prefix= HTTP")

    def close(self) -> None:
        for storage in self._made:
            storage.stop()

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        self._service.overwrite(f"layers/{digest.hex}", content)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        raise NotImplementedError("it knows no quota")

    async def load(self, location: Location) -> bytes:
        return await load(self._agent, location)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    with moto_server(tmp_path_factory.mktemp("moto")) as service:
        yield service


class TestMoto(StorageContract):
    """On moto's server, as developers use it."""

    test_full: Any = None  # it knows no quota

    @pytest.fixture
    def backend(self, moto: S3Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoBackend]:
        for name, value in moto.environ.items():
            monkeypatch.setenv(name, value)
        moto.clear()
        backend = MotoBackend(moto)
        yield backend
        backend.close()

    @pytest_twisted.ensureDeferred
    async def test_parts(self, backend: MotoBackend, moto: S3Service) -> None:
        """A blob of several parts is had back whole, and no part is left."""
        storage, content = await backend.open(), os.urandom(PART) * 2 + b"the rest"
        digest = await store(storage, content)
        assert await backend.load(await storage.locate(digest)) == content
        assert moto.names() == [f"layers/{digest.hex}"]
        assert moto.uploads() == 0
