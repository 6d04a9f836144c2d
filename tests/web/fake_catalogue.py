"""A package index that tests fill."""

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from zope.interface import implementer

from nixery.builds.cache import Cache
from nixery.builds.known_images import KnownImages
from nixery.interfaces import ICatalogue, SearchResult
from nixery.model.package_set import Package
from nixery.model.suggestions import Suggestion
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN, Auth
from nixery.web.packages import PackagesApi
from nixery.web.stored_images import StoredImages

reactor: Any = _reactor

RIPGREP = Package(
    path=("ripgrep",),
    image="ripgrep",
    name="ripgrep-14.0",
    pname="ripgrep",
    version="14.0",
    description="<script>alert('é')</script>",
    homepage="https://rg.example",
    program="rg",
    programs=("rg",),
    outputs=("out",),
    licences=("MIT",),
)
FOUND = SearchResult(ready=True, packages=[RIPGREP], source="folder:set", revision="abc", count=7)


@implementer(ICatalogue)
@attrs.define
class FakeCatalogue:
    """Finds what it is told to, and remembers what it was asked.

    :ivar gate: while it is set, searches wait for it.
    :ivar meant: what it suggests for every name.
    :ivar lacking: the names that no package has.
    """

    gate: Deferred[None] | None = None

    found: SearchResult = FOUND
    error: Exception | None = None
    asked: list[tuple[str, int]] = attrs.Factory(list)
    meant: Sequence[Suggestion] = ()
    lacking: Sequence[str] = ()

    async def search(self, query: str, limit: int) -> SearchResult:
        self.asked.append((query, limit))
        if self.gate is not None:
            await self.gate
        if self.error is not None:
            raise self.error
        return attrs.evolve(self.found, packages=list(self.found.packages)[:limit])

    def package(self, name: str) -> Package | None:
        return next((p for p in self.found.packages if name in (p.image, p.attribute)), None)

    def suggest(self, name: str) -> Sequence[Suggestion]:
        return self.meant

    def lacks(self, name: str) -> bool:
        return name in self.lacking


def packages_api(catalogue: ICatalogue | None = None, auth: Auth = OPEN) -> PackagesApi:
    """Answers about packages where no image is stored."""
    storage = MemoryStorage()
    cache = Cache(storage)
    known = KnownImages(reactor, storage, cache, "/nowhere")
    images = StoredImages(reactor, known, cache, storage, auth)
    return PackagesApi(reactor, catalogue or FakeCatalogue(), images, auth)
