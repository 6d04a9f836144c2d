"""The parts that know which images there are, and what belongs to each, put together."""

from functools import partial
from typing import Any

from twisted.logger import Logger

from nixery.attest.image_documents import documents_of
from nixery.attest.provenance import builder_at
from nixery.attest.signing_keys import read_signing_key, remarks_on_key
from nixery.attest.verification_document import verification_document
from nixery.builds.artifacts import Artifacts
from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.builds.removal import Removals
from nixery.interfaces import IStorage
from nixery.model.digest import Digest
from nixery.model.reproduction import Reproduction
from nixery.model.signing import Signing
from nixery.settings import Settings


class ImageParts:
    """Parts around the storage of images, none of them started yet.

    :ivar cache: records of images and layers.
    :ivar images: summaries of all images.
    :ivar artifacts: what is attached to images.
    :ivar removals: removes images.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, storage: IStorage) -> None:
        self.cache = Cache(storage, reactor=reactor)
        self.images = KnownImages(reactor, storage, self.cache, settings.state)
        self.artifacts = self._make_artifacts(reactor, settings.signing, storage)
        self.removals = Removals(
            *(reactor, storage, self.cache, self.images, settings.disk.storage_grace),
            self.artifacts.blobs_of,
        )

    def _make_artifacts(self, reactor: Any, signing: Signing, storage: IStorage) -> Artifacts:
        for remark in [each for path in signing.keys for each in remarks_on_key(path)]:
            self._log.warn("{remark}", remark=remark)
        keys = tuple(map(read_signing_key, signing.keys))
        documents = partial(documents_of, builder=builder_at(signing.host))
        return Artifacts(reactor, storage, self.cache, keys, signing.host, documents)

    async def look(self) -> None:
        """Look at what is stored, and drop what images left that were removed a while ago."""
        await self.images.refresh()
        await self.removals.work_off()

    async def attest(self, made: Reproduction) -> None:
        """Attach to an image what came of making it again."""
        await self.artifacts.add(Digest.parse(made.digest), verification_document(made))
