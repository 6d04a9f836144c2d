"""Counting pulls: in memory, and now and then in a record that all instances share."""

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from nixery.builds.cache import Cache
from nixery.builds.patient_lease import patient_lease
from nixery.interfaces import ILeases
from nixery.model.image_summary import ImageSummary
from nixery.model.pull_counts import PullCount, PullCounts, added, counts_record, read_counts

_NEVER = (0, 0.0)
_RECORD = "pulls/0"


class PullCounter:
    """Counts the pulls of all instances.

    :ivar counts: as the record had them last, with ours since then.
    """

    def __init__(
        self,
        clock: IReactorTime,
        leases: ILeases,
        cache: Cache,
        now: Callable[[], float],
        patience: float,
    ) -> None:
        """
        :param now: seconds since the epoch.
        :param patience: seconds to wait for another instance that adds its counts.
        """
        self.counts: dict[str, PullCount] = {}
        self._clock = clock
        self._leases = leases
        self._cache = cache
        self._now = now
        self._patience = patience
        self._untold: dict[str, PullCount] = {}  # to the record
        self._sent: dict[tuple[str, str], tuple[int, float]] = {}  # manifests, by which tags

    def note(self, digest: str, tag: str, counts: bool) -> None:
        """A manifest was sent: see :meth:`nixery.builds.known_images.KnownImages.pulled`. It costs
        less than a microsecond, since answers that are known take few."""
        key = digest, tag
        self._sent[key] = (self._sent.get(key, _NEVER)[0] + counts, self._now())

    def settle(self, summary_of: Callable[[str], ImageSummary]) -> Iterator[ImageSummary]:
        """Count the manifests that were sent since the last time.

        :param summary_of: gives the summary of a digest.
        :return: the summaries as they are now.
        """
        sent, self._sent = sorted(self._sent.items(), key=lambda each: each[1][1]), {}
        for (digest, tag), (pulls, pulled) in sent:
            summary = summary_of(digest).tagged(tag)
            one = PullCount(summary.name, summary.tag, pulls, pulled, float(pulls))
            for table in (self.counts, self._untold):
                before = table.get(digest)
                table[digest] = one if before is None else before.plus(one)
            yield summary.counted(self.counts[digest])

    async def share(self) -> PullCounts:
        """Add what was counted here to the record, and take over what others have.

        :return: all counts.
        :raises NixeryError: if the storage fails; what was counted here is kept.
        """
        ours, self._untold = self._untold, {}
        try:
            theirs = await self._read()
            if ours:
                async with patient_lease(self._clock, self._leases, _RECORD, self._patience):
                    theirs = added(await self._read(), ours, self._now())
                    await self._cache.write(_RECORD, counts_record(theirs), lasting=False)
        except BaseException:
            self._untold = added(ours, self._untold, self._now())
            raise
        self.counts = added(theirs, self._untold, self._now())
        return self.counts

    async def _read(self) -> dict[str, PullCount]:
        return await self._cache.read(_RECORD, read_counts, fresh=True) or {}
