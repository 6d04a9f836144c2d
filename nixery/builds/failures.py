"""Images that could not be made a moment ago."""

import copy
from collections.abc import Callable

import attrs

from nixery.model import errors
from nixery.model.errors import NixeryError
from nixery.recent import Recent

_MOST = 1000

PASSING = (
    errors.QueueFull,
    errors.ShuttingDown,
    errors.SourceUnavailable,
    errors.SourceChanged,
    errors.NixUnavailable,
    errors.PackerKilled,
    errors.StorageFull,
    errors.StorageUnavailable,
)
"""What may be over in a moment: it says nothing of the image."""


@attrs.frozen
class Failure:
    """Why an image could not be made.

    :param build: the ID of the build that found out.
    """

    error: NixeryError
    build: str


class Failures:
    """Remembers what would fail again, so that clients who try again cost nothing.

    docker alone asks twice for every image: by HEAD and by GET.
    """

    def __init__(self, now: Callable[[], float], ttl: float) -> None:
        """
        :param now: seconds, from any moment on.
        :param ttl: seconds that a failure is remembered.
        """
        self._ttl = ttl
        self._recent: Recent[str, Failure] = Recent(now, _MOST)

    def get(self, key: str) -> Failure | None:
        """The failure of an image key, if it was a moment ago; its error is the caller's own."""
        failure = self._recent.get(key, self._ttl)
        return None if failure is None else Failure(copy.copy(failure.error), failure.build)

    def note(self, key: str, error: BaseException, build: str) -> None:
        """Remember why an image could not be made, if it will fail in the same way again."""
        if isinstance(error, NixeryError) and not isinstance(error, PASSING):
            # Without its traceback, which holds all that Nix has told, such as a set's names.
            self._recent.put(key, Failure(copy.copy(error), build))
