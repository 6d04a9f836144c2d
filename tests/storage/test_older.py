# mypy: disable-error-code="import-untyped,untyped-decorator"
"""Storages that an earlier version wrote are served.

``older.json`` has all objects of a bucket in which version 0.1 made and served one image. The
storage in a folder had the same names and contents.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from nixery.builds.cache import Cache
from nixery.builds.served import ServedImages
from nixery.interfaces import IStorage, Provenance
from nixery.model.image import parse_image
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from tests.gcs.objects import Content
from tests.storage.gcs_place import gcs_place

reactor: Any = _reactor

OLDER: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "older.json").read_text("utf-8")
)


async def check(storage: IStorage) -> None:
    """All that the storage holds is known, and still is once records were written anew."""
    for _ in range(2):
        cache = Cache(storage)
        served = ServedImages(Clock(), storage, cache)
        manifest = await cache.manifest("0" * 64)
        assert manifest is not None
        assert [blob.size for blob in manifest.blobs] == [2, 7]
        layer = await cache.layer("1" * 64)
        assert layer is not None
        assert layer.descriptor in manifest.blobs
        origin = Provenance("git:https://example.com/x", "1" * 40)
        assert await cache.provenance(manifest.digest) == origin
        for digest in (manifest.digest, layer.descriptor.digest):
            assert await served.holds("hello", digest, lambda tag: tag == "latest")
            assert not await served.holds("other", digest, lambda tag: True)
        await served.note(parse_image("hello", "1"), manifest)
        await cache.remember_manifest("0" * 64, manifest, origin)


@pytest_twisted.ensureDeferred
async def test_folder(tmp_path: Path) -> None:
    """A folder of an earlier version is served; what is written anew says by its key what it is."""
    for name, found in OLDER.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(found["content"])
    storage = FilesystemStorage(reactor, str(tmp_path))
    await storage.start()
    await check(storage)
    storage.stop()
    for kind in ("provenance", "served"):
        assert len(list((tmp_path / kind).iterdir())) == 1


@pytest_twisted.ensureDeferred
async def test_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a bucket."""
    async with gcs_place(tmp_path, monkeypatch.setenv) as place:
        for name, found in OLDER.items():
            content = Content.of(found["content"].encode())
            place.server.bucket.put(name, content, {"metadata": found["metadata"]})
        await check(await place.open())
        kinds = {name.partition("/")[0] for name in place.server.objects}
        assert kinds == {"builds", "layers", "manifests", "provenance", "served"}
