# mypy: disable-error-code="import-untyped,untyped-decorator"
"""The storage in a bucket of S3: the contract, on a server that verifies and on moto's."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted

from nixery.model.digest import Digest
from nixery.storage.objects.aws_access import AwsProfile
from nixery.storage.objects.object_storage import ObjectStorage
from nixery.storage.objects.object_store import IObjectStore
from nixery.storage.objects.s3 import S3Store
from nixery.storage.objects.s3_requests import S3Bucket, S3Requests
from tests.s3.ceph import ceph_gateway
from tests.s3.moto import moto_server
from tests.s3.service import S3Service
from tests.storage.backend import run, store
from tests.storage.bucket_place import OPTIONS, Bucket, reactor
from tests.storage.contract import StorageContract
from tests.storage.s3_place import S3Place, s3_place
from tests.waiting import until

PART = 5 * 1024 * 1024
"""Bytes: the least that S3 takes."""


class TestS3(StorageContract):
    """On the server that verifies signatures, digests, conditions and checksums."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Place]:
        context = s3_place(tmp_path, monkeypatch.setenv)
        yield run(context.__aenter__())
        run(context.__aexit__(None, None, None))


class ServiceBackend(Bucket):
    """The bucket of a service that does not tell whether it is asked well."""

    def __init__(self, service: S3Service) -> None:
        super().__init__()
        self._service = service

    def make_store(self, bucket: str | None = None) -> S3Store:
        place = S3Bucket(bucket or self._service.bucket)
        return S3Store(reactor, S3Requests(reactor, self.agent, place, AwsProfile(os.environ)))

    def make(self, store: IObjectStore | None = None, **options: Any) -> ObjectStorage:
        return super().make(store, uploads=attrs.evolve(OPTIONS.uploads, part=PART), **options)

    async def damage(self, digest: Digest, content: bytes | None) -> None:
        self._service.overwrite(f"layers/{digest.hex}", content)


class ServiceContract(StorageContract):
    """On a program that speaks like S3, and knows no quota."""

    test_full: Any = None
    backend_of: type[ServiceBackend] = ServiceBackend

    @pytest.fixture
    def backend(
        self, service: S3Service, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[ServiceBackend]:
        for name, value in service.environ.items():
            monkeypatch.setenv(name, value)
        service.clear()
        backend = self.backend_of(service)
        yield backend
        run(backend.close())

    @pytest_twisted.ensureDeferred
    async def test_parts(self, backend: ServiceBackend, service: S3Service) -> None:
        """A blob of several parts is had back whole, and no part is left."""
        storage, content = await backend.open(), os.urandom(PART) * 2 + b"the rest"
        digest = await store(storage, content)
        assert await backend.load(await storage.locate(digest)) == content
        assert service.names() == [f"layers/{digest.hex}"]
        assert service.uploads() == 0


class MotoBackend(ServiceBackend):
    """moto says of each upload that it was begun in 2010: an instance that starts takes it for one
    that nobody finished."""

    async def open(self) -> ObjectStorage:
        before = self._cleanings()
        storage = await super().open()
        await until(lambda: self._cleanings() > before)
        return storage

    def _cleanings(self) -> int:
        return self._service.log.read_text().count("uploads=&prefix= HTTP")


class TestMoto(ServiceContract):
    """On moto's server, as developers use it."""

    backend_of = MotoBackend

    @pytest.fixture(scope="class")
    def service(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
        with moto_server(tmp_path_factory.mktemp("moto")) as service:
            yield service


@pytest.mark.ceph
class TestCeph(ServiceContract):
    """On Ceph's gateway."""

    @pytest.fixture(scope="class")
    def service(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
        with ceph_gateway(tmp_path_factory.mktemp("ceph") / "it") as service:
            yield service
