"""The images that are stored: what there is to list, without a look at each.

Summaries of all images are in memory, and in a file of the state folder. They follow the records
of the storage, where other instances may make images and drop them: the keys are listed now and
then, and only records of images that are not known yet are read. How often images were pulled is
counted in memory, and added now and then to a record that all instances share.
"""

import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import product
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from nixery.builds.artifacts import names_of
from nixery.builds.cache import Cache
from nixery.builds.layers import gather
from nixery.builds.patient_lease import PATIENCE
from nixery.builds.pull_counter import PullCounter
from nixery.interfaces import IStorage
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.image import parse_image
from nixery.model.image_summary import PREFIX, ImageSummary, summary_of
from nixery.model.manifest import MAX_MANIFEST_SIZE
from nixery.model.pull_counts import PullCount, most_pulled
from nixery.model.request_errors import BlobUnknown, DigestInvalid, ManifestUnknown
from nixery.reactor import IReactor, in_thread
from nixery.whole_file import whole_file

INTERVAL = 300.0
"""Seconds between two looks at what is stored."""
MOST = 50_000
"""Images that are known, of about a kilobyte each."""
_AT_ONCE = 16  # records that are read
_PREFIXES = re.compile(f".{{{PREFIX}}}")


class KnownImages:
    """Summaries of all images in the storage.

    :ivar complete: whether all are known that were there at the last look, which has succeeded.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        storage: IStorage,
        cache: Cache,
        state: str,
        now: Callable[[], float] = time.time,
        most: int = MOST,
        patience: float = PATIENCE,
    ) -> None:
        """
        :param cache: tells of the images that are made here.
        :param state: the folder in which the summaries are kept over a restart.
        :param now: seconds since the epoch.
        :param most: images.
        :param patience: seconds to wait for another instance that adds its counts, and for a
            storage at the end.
        """
        self.complete = False
        self._reactor = reactor
        self._storage = storage
        self._cache = cache
        self._path = os.path.join(state, "images.jsonl")
        self._now = now
        self._most = most
        self._patience = patience
        self._known: dict[str, ImageSummary] = {}
        self._by_name: dict[tuple[str, str, bool], str] = {}  # and whether one platform is meant
        self._fresh: set[str] = set()  # made, or found, since the last look began
        self._pulls = PullCounter(reactor, storage, cache, now, patience)
        self._looking = DeferredLock()
        self._unsaved = False
        self._older = False  # whether images of older versions are known as well
        cache.on_made = self._put

    async def start(self) -> None:
        """Read what an earlier process knew."""
        for summary in await in_thread(self._reactor, _read, self._path):
            self._put(summary)
        self._fresh.clear()
        self._unsaved = False
        self._older = bool(self._known)

    async def stop(self) -> None:
        """Write down what is known, and add what was counted to the storage if that is quick."""
        counting = Deferred.fromCoroutine(self._add_counts())
        await counting.addTimeout(self._patience, self._reactor).addErrback(lambda _: None)
        await self._save()

    def find(self, name: str, tag: str) -> ImageSummary | None:
        """The image that was made, or pulled, last by a name and tag.

        :param name: any spelling.
        :raises NameInvalid, ImageInvalid or TagInvalid: if there can be no such image.
        """
        self._settle()
        image = parse_image(name, tag)
        alone = image.has_platform
        digests = (self._by_name.get((each, tag, alone)) for each in image.names)
        return self._known.get(next(filter(None, digests), ""))

    def __contains__(self, digest: str) -> bool:
        """Whether the image of a manifest is known."""
        return digest in self._known

    async def by_digest(self, digest: Digest) -> ImageSummary | None:
        """The image of a manifest, also if another instance made it a moment ago."""
        self._settle()
        known = self._known.get(str(digest))
        if known is None:
            known = await self._read_summary(digest)
            if known is not None:
                self._put(known)
        return known

    def all(self) -> list[ImageSummary]:
        """All images, those that were made or pulled last first."""
        return in_order(self.unordered())

    def unordered(self) -> list[ImageSummary]:
        """All images, in any order."""
        self._settle()
        return list(self._known.values())

    def most_pulled(self, number: int) -> list[tuple[str, str]]:
        """The names and tags that were pulled most lately, by all instances, the first one most:
        see :data:`nixery.model.pull_counts.HALF_LIFE`."""
        self._settle()
        counts = {digest: self._of_index(digest, c) for digest, c in self._pulls.counts.items()}
        return most_pulled(counts, number, self._now())

    def _of_index(self, digest: str, count: PullCount) -> PullCount:
        """The pulls of an image, by the name of the index that it is part of, if it is of one."""
        name = names_of(count.name)[-1]
        index = self._known.get(self._by_name.get((name, count.tag, False), ""))
        if index is None or digest[len("sha256:") :][:PREFIX] not in index.blobs:
            return count
        return attrs.evolve(count, name=name)

    def pulled(self, digest: str, tag: str, counts: bool = True) -> None:
        """A manifest was sent to a client.

        :param tag: by which it was asked for; empty if it was by digest.
        :param counts: whether this is a pull, or only a look at which manifest there is.
        """
        self._pulls.note(digest, tag, counts)

    def _settle(self) -> None:
        """Take account of the manifests that were sent lately."""
        for summary in self._pulls.settle(lambda d: self._known.get(d) or ImageSummary(d)):
            if summary.digest in self._known:
                self._know(summary)

    def needed(self, blobs: Iterable[Digest]) -> set[Digest]:
        """Those of some blobs that are of a known image, and perhaps a few more; it takes a while.
        Blocks."""
        wanted = {blob: blob.hex[:PREFIX] for blob in blobs}
        looked_for, found = set(wanted.values()), set[str]()
        for summary in list(self._known.values()):
            found |= looked_for.intersection(_PREFIXES.findall(summary.blobs))
        return {blob for blob, prefix in wanted.items() if prefix in found}

    def forget(self, digests: Iterable[str]) -> None:
        """Some images are no more."""
        gone = filter(None, [self._known.pop(digest, None) for digest in list(digests)])
        if names := {summary.name for summary in gone}:
            self._unsaved = True
            kept = (each for each in self._by_name.items() if each[0][0] not in names)
            self._by_name = dict(kept)
            for summary in self._known.values():
                if summary.name in names:
                    self._name(summary)

    async def refresh(self) -> None:
        """Look at what is stored; what fails is tried again next time."""
        async with self._looking:
            followed = False
            try:
                await self._follow()
                followed = True
                await self._add_counts()
            except NixeryError as error:
                self._log.warn("the list of images may be out of date: {error}", error=str(error))
            self.complete = followed and len(self._known) < self._most
            await self._save()

    def _put(self, summary: ImageSummary) -> None:
        """Take note of an image that is stored."""
        if summary.digest not in self._known and len(self._known) >= self._most:
            self.complete = False
            return
        self._fresh.add(summary.digest)
        if (before := self._known.get(summary.digest)) is not None:
            summary = attrs.evolve(summary, tags=before.tags).tagged(summary.tag)
        if (count := self._pulls.counts.get(summary.digest)) is not None:
            summary = summary.counted(count)
        self._know(summary)

    def _know(self, summary: ImageSummary) -> None:
        self._known[summary.digest] = summary
        self._name(summary)
        self._unsaved = True

    def _name(self, summary: ImageSummary) -> None:
        for tag, alone in product(summary.tags, {False, len(summary.platforms) <= 1}):
            key = summary.name, tag, alone
            before = self._known.get(self._by_name.get(key, ""))
            if before is None or summary.supersedes(before):
                self._by_name[key] = summary.digest

    # --- the storage ----------------------------------------------------------------------

    async def _follow(self) -> None:
        """Learn of the images that others have made, and of those that are no more."""
        self._fresh.clear()
        stored = {key.partition("/")[2] async for key in self._storage.list_records("provenance/")}
        stored = {f"sha256:{digits}" for digits in stored if len(digits) == 64}
        self.forget(self._known.keys() - stored - self._fresh)
        self._older &= bool(self._known)  # what was known may be of another storage
        unknown = sorted(stored - self._known.keys())[: self._most - len(self._known)]
        await _work_off(self._learn(digest) for digest in unknown)
        if not self._older:
            await self._learn_older()
            self._older = True

    async def _learn(self, digest: str) -> None:
        summary = await self._read_summary(Digest.parse(digest))
        if summary is not None:
            self._put(summary)

    async def _read_summary(self, digest: Digest) -> ImageSummary | None:
        """The summary of an image, from its record, or from its documents if an older version
        made it."""
        summary = await self._cache.read(f"provenance/{digest.hex}", _summary)
        if summary is None or summary.blobs:
            return summary
        return await self._summarise(digest, summary.source, summary.revision)

    async def _summarise(
        self, digest: Digest, source: str = "", revision: str = ""
    ) -> ImageSummary | None:
        try:
            manifest = await self._cache.manifest_of(digest)
            config = await self._storage.read_blob(manifest.blobs[0].digest, MAX_MANIFEST_SIZE)
        except (ManifestUnknown, BlobUnknown):
            return None
        return summary_of(manifest, None, source, revision, config=config)

    async def _learn_older(self) -> None:
        """Learn of the images of versions that kept no record of what an image was made from, and
        have one from now on."""
        keys = [key async for key in self._storage.list_records("manifests/")]

        async def learn(key: str) -> None:
            digest = await self._cache.read(key, lambda record: Digest.parse(record["digest"]))
            if digest is None or str(digest) in self._known:
                return
            origin = await self._cache.provenance(digest)
            told = (origin.source, origin.revision) if origin is not None else ("", "")
            if (summary := await self._summarise(digest, *told)) is not None:
                await self._cache.write(f"provenance/{digest.hex}", summary.document())
                self._put(summary)

        await _work_off(map(learn, keys))

    async def _add_counts(self) -> None:
        """Add what was counted here to the record of all instances, and take over theirs."""
        self._settle()
        for digest, count in (await self._pulls.share()).items():
            known = self._known.get(digest)
            if known is not None and (count.pulls, count.pulled) != (known.pulls, known.pulled):
                self._know(known.counted(count))

    async def _save(self) -> None:
        """Write down what is known; not before a look that succeeded, so that the next process
        does not take it for all."""
        if self._unsaved and self._older:
            self._unsaved = False
            try:
                known = list(self._known.values())
                await in_thread(self._reactor, _write, self._path, known)
            except OSError as error:
                text = "{path} can't be written, and is made anew after a restart: {error}"
                self._log.warn(text, path=self._path, error=error.strerror)


def in_order(images: Iterable[ImageSummary]) -> list[ImageSummary]:
    """Some images, those that were made or pulled last first."""
    return sorted(images, key=lambda image: image.used, reverse=True)


def _summary(record: dict[str, Any]) -> ImageSummary:
    """The summary in a record; an older version wrote source and revision alone."""
    return ImageSummary(**record)


def _read(path: str) -> list[ImageSummary]:
    """The summaries in a file, as far as they can be read. Blocks."""
    summaries = []
    try:
        with open(path, "rb") as file:
            for line in file:
                summary = ImageSummary(**json.loads(line))
                Digest.parse(summary.digest)
                summaries.append(summary)
    except (OSError, ValueError, TypeError, RecursionError, DigestInvalid):
        pass  # what is missing is found in the storage
    return summaries


def _write(path: str, summaries: Sequence[ImageSummary]) -> None:
    """Write summaries to a file, a line for each: the reactor goes on between two. Blocks."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with whole_file(path, lasting=False) as file:
        for summary in summaries:
            file.write(json.dumps(summary.document()).encode("ascii") + b"\n")


async def _work_off(works: Iterable[Awaitable[None]]) -> None:
    """Do all of some work, a few at once.

    :raises NixeryError: if some failed.
    """
    following = iter(works)

    async def work() -> None:
        for each in following:
            await each

    await gather(work() for _ in range(_AT_ONCE))
