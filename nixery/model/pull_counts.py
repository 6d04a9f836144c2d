"""How often images were pulled, and lately: counts that several instances add up."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import attrs

HALF_LIFE = 7 * 86400.0
"""Seconds after which a pull counts half where the images that are pulled most are wanted."""
_FORGOTTEN = 90 * 86400.0
"""Seconds after its last pull from which on an image's pulls are forgotten."""
_MOST = 2000
"""Images whose pulls are counted; those that have no name go first, then those that are pulled
least, and longest ago."""


@attrs.frozen
class PullCount:
    """The pulls of an image.

    :param name: the image's.
    :param tag: by which it was asked for last.
    :param pulls: how many there were.
    :param pulled: when the last one was, in seconds since the epoch.
    :param score: how many there were lately, as of then: see :data:`HALF_LIFE`.
    """

    name: str
    tag: str
    pulls: int
    pulled: float
    score: float

    def score_at(self, now: float) -> float:
        """How many pulls there were lately, as of some time in seconds since the epoch."""
        return float(self.score * 0.5 ** (max(0.0, now - self.pulled) / HALF_LIFE))

    def plus(self, more: "PullCount") -> "PullCount":
        """The pulls of both, which are of one image."""
        latest = max(self, more, key=lambda count: count.pulled)
        score = self.score_at(latest.pulled) + more.score_at(latest.pulled)
        name = latest.name or self.name or more.name
        return attrs.evolve(latest, name=name, pulls=self.pulls + more.pulls, score=score)


PullCounts = Mapping[str, PullCount]
"""Pulls of images, by the digests of their manifests."""


def added(counts: PullCounts, more: PullCounts, now: float) -> dict[str, PullCount]:
    """All pulls together, as far as they are worth to be remembered.

    :param now: in seconds since the epoch.
    """
    merged = dict(counts)
    for digest, count in more.items():
        merged[digest] = merged[digest].plus(count) if digest in merged else count
    kept = [pair for pair in merged.items() if now - pair[1].pulled < _FORGOTTEN]
    # What is attached to an image is pulled, too; it has no name, and nobody asks for its count.
    kept.sort(key=lambda pair: (pair[1].name != "", pair[1].score_at(now)), reverse=True)
    return dict(kept[:_MOST])


def most_pulled(counts: PullCounts, number: int, now: float) -> list[tuple[str, str]]:
    """The names and tags that were pulled most lately, the first one most.

    :param now: in seconds since the epoch.
    """
    scores: defaultdict[tuple[str, str], float] = defaultdict(float)
    for count in counts.values():
        if count.name and count.pulls:
            scores[count.name, count.tag] += count.score_at(now)
    return sorted(scores, key=lambda image: (-scores[image], image))[:number]


def counts_record(counts: PullCounts) -> dict[str, Any]:
    """The record of some counts, as JSON can hold it."""
    return {"pulls": {digest: attrs.astuple(count) for digest, count in counts.items()}}


def read_counts(record: Mapping[str, Any]) -> dict[str, PullCount]:
    """The counts of a record.

    :raises ValueError, KeyError or TypeError: if it is none.
    """
    return {
        digest: PullCount(str(name), str(tag), int(pulls), float(pulled), float(score))
        for digest, (name, tag, pulls, pulled, score) in dict(record["pulls"]).items()
    }
