"""Which revisions of package sets have something named ``library``.

Docker's own registry keeps official images below ``library/``, and some clients put that before
every single name: ``library/NAME`` stands for ``NAME``, unless the set has a package of that name.
"""

import attrs

from nixery.model.source import PinnedSource, canonical_json
from nixery.recent import Recent

_MOST = 512


class Libraries:
    """Remembers what evaluations have found out, and whether somebody wants to know."""

    def __init__(self) -> None:
        self._known: Recent[str, bool] = Recent(lambda: 0.0, _MOST)
        self._wanted: set[str] = set()

    def get(self, pinned: PinnedSource, system: str) -> bool | None:
        """Whether a revision has it; nothing if that is not known."""
        return self._known.get(_key(pinned, system))

    def note(self, pinned: PinnedSource, system: str, there: bool) -> None:
        """An evaluation has found it, or not."""
        key = _key(pinned, system)
        self._known.put(key, there)
        self._wanted.discard(key)

    def want(self, pinned: PinnedSource, system: str) -> None:
        """Have the next build of an image of this revision find it out, whether it has to be made
        or not."""
        self._wanted.add(_key(pinned, system))

    def is_wanted(self, pinned: PinnedSource, system: str) -> bool:
        """Whether it is to be found out."""
        return _key(pinned, system) in self._wanted

    def forget(self, pinned: PinnedSource, system: str) -> None:
        """Nobody wants to know any more."""
        self._wanted.discard(_key(pinned, system))


def _key(pinned: PinnedSource, system: str) -> str:
    told = attrs.asdict(pinned.configuration) if pinned.configuration else None
    return canonical_json([pinned.pin.identity(), told, system])
