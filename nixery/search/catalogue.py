"""Package search: an index of the served set, made in the background, kept over a restart."""

from collections.abc import Sequence

import attrs
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from nixery.coalesce import Coalescer
from nixery.interfaces import ICatalogue, IResolver, SearchResult
from nixery.model.errors import NixeryError
from nixery.model.image import AMD64
from nixery.model.package_set import Package
from nixery.model.service_errors import ShuttingDown, SourceChanged
from nixery.model.source import PinnedSource
from nixery.model.suggestions import Suggestion
from nixery.model.tags import LATEST
from nixery.reactor import IReactor, in_thread
from nixery.search.index_file import KeptIndex, index_key, read_index, write_index
from nixery.search.lister import Indexer
from nixery.search.ranking import Index

LOOK_AGAIN = 60.0
"""Seconds after which a search makes the catalogue check for a newer revision."""
PROGRAMS_AGAIN = 600.0
"""Seconds after which a search makes it read the programs again: the store may hold more."""
FIRST_WAIT, LONGEST_WAIT = 30.0, 3600.0
"""Seconds between attempts after a failure: doubled each time."""

_SUGGESTED = 10
"""Suggestions; not all of them may be shown to each client."""


@attrs.frozen
class _Made:
    """The index that is searched.

    :param kept_index: what it is of, without the index itself.
    :param programs_read: when the programs in the store were read.
    """

    index: Index
    kept_index: KeptIndex
    programs_read: float


@implementer(ICatalogue)
class Catalogue:
    """One index at a time: that of the newest revision that has one.

    Nothing is done before the first search or request for suggestions. Each of these brings the
    index up to date in the background, where that is due; search results tell of failures.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        resolver: IResolver,
        lister: Indexer,
        folder: str,
        system: str = AMD64,
    ) -> None:
        """
        :param folder: for the last index.
        :param system: that the packages are for which the lister lists.
        """
        self._system = system
        self._reactor = reactor
        self._resolver = resolver
        self._lister = lister
        self._folder = folder
        self._made: _Made | None = None
        self._updating: Coalescer[str, None] = Coalescer()
        self._due = 0.0
        self._failures = 0
        self._fault = ""

    async def search(self, query: str, limit: int) -> SearchResult:
        self._update()
        made = self._made
        if made is None:
            return SearchResult(ready=False, fault=self._fault)
        packages = await in_thread(self._reactor, made.index.search, query, limit)
        kept_index = made.kept_index
        return SearchResult(
            ready=True,
            packages=packages,
            source=kept_index.source,
            revision=kept_index.revision,
            count=len(made.index),
            whole=kept_index.whole,
            fault=self._fault,
        )

    def package(self, name: str) -> Package | None:
        self._update()
        return None if self._made is None else self._made.index.named(name)

    def suggest(self, name: str) -> Sequence[Suggestion]:
        self._update()
        return [] if self._made is None else self._made.index.meant(name, _SUGGESTED)

    def lacks(self, name: str) -> bool:
        self._update()
        made = self._made
        return made is not None and made.kept_index.whole and not made.index.has(name)

    async def stop(self) -> None:
        """Cancel the update that is running, and wait until it has ended."""
        await self._updating.stop()

    def _update(self) -> None:
        """Begin to bring the index up to date, if that is due and not being done already."""
        if len(self._updating) or self._reactor.seconds() < self._due:
            return
        try:
            # Nobody waits for it; it fails only when it is cancelled.
            self._updating.join("", self._try_to_make).addErrback(lambda _: None)
        except ShuttingDown:
            return

    async def _try_to_make(self) -> None:
        try:
            await self._make()
        except CancelledError:
            raise
        except NixeryError as error:
            self._failed(str(error.public()), str(error))
        except Exception as error:
            self._log.failure("package search: the index can't be brought up to date")
            reason = f"internal error, which was logged ({type(error).__name__})"
            self._failed(reason, reason)
        else:
            self._failures, self._fault = 0, ""
            self._due = self._reactor.seconds() + LOOK_AGAIN

    def _failed(self, reason: str, in_full: str) -> None:
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._fault = reason
        self._due = self._reactor.seconds() + wait
        self._log.warn("package search: no index of this revision: {reason}", reason=in_full)

    async def _make(self) -> None:
        """Bring the index up to date; an older one is searched until then."""
        if self._made is None and (kept := await in_thread(self._reactor, self._read)) is not None:
            await self._serve(kept, 0.0)
        pinned = await self._resolver.resolve(LATEST)
        key = index_key(pinned, self._system)
        if self._made is None or self._made.kept_index.key != key:
            await self._keep(await self._list(key, pinned))
        elif self._made.programs_read + PROGRAMS_AGAIN < self._reactor.seconds():
            await self._look_for_programs(self._made)

    async def _list(self, key: str, pinned: PinnedSource) -> KeptIndex:
        began = self._reactor.seconds()
        listing = await self._lister.packages(pinned)
        if not await self._resolver.unchanged(pinned):
            raise SourceChanged(str(pinned.source))
        self._log.info(
            "package search: {source} at {revision} was listed in {seconds:.1f} s; attributes that "
            "can't be evaluated: {skipped}",
            source=pinned.source.label,
            revision=pinned.revision,
            seconds=self._reactor.seconds() - began,
            skipped=len(listing.skipped),
        )
        source, revision = pinned.source.label, pinned.revision
        return KeptIndex(key, source, revision, listing.index, listing.skipped, listing.whole)

    async def _look_for_programs(self, made: _Made) -> None:
        kept = await in_thread(self._reactor, self._read)
        if kept is not None and kept.key == made.kept_index.key:
            index = await self._lister.programs(kept.index)
            if index is not None:
                await self._keep(attrs.evolve(kept, index=index))
        self._made = attrs.evolve(self._made or made, programs_read=self._reactor.seconds())

    async def _keep(self, kept_index: KeptIndex) -> None:
        await in_thread(self._reactor, self._write, kept_index)
        await self._serve(kept_index, self._reactor.seconds())

    async def _serve(self, kept_index: KeptIndex, programs_read: float) -> None:
        """Use an index for searches from now on."""
        index = await in_thread(self._reactor, Index.load, kept_index.index)
        self._made = _Made(index, attrs.evolve(kept_index, index=b""), programs_read)

    def _read(self) -> KeptIndex | None:
        try:
            kept = read_index(self._folder)
            if kept is not None:
                Index.load(kept.index)
            return kept
        except (OSError, ValueError) as error:
            self._log.warn("the kept package index can't be read: {error}", error=error)
            return None

    def _write(self, kept_index: KeptIndex) -> None:
        try:
            write_index(self._folder, kept_index)
        except OSError as error:
            self._log.warn("the package index can't be kept: {error}", error=error)
