"""Images that could not be made: which of them are not tried again, and what clients are told."""

import copy
from collections.abc import Callable, Sequence

import attrs

from nixery.model.build_errors import PackerKilled
from nixery.model.errors import NixeryError
from nixery.model.package_errors import (
    AmbiguousPackage,
    EvaluationFailed,
    InterpretersDiffer,
    NotAPackage,
    PackageUnnameable,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.service_errors import (
    NixUnavailable,
    QueueFull,
    ShuttingDown,
    SourceChanged,
    SourceUnavailable,
    StorageFull,
    StorageUnavailable,
)
from nixery.model.suggestions import Suggestion
from nixery.recent import Recent

_MOST = 1000

OF_REGISTRY = (
    QueueFull,
    ShuttingDown,
    SourceUnavailable,
    SourceChanged,
    StorageFull,
    StorageUnavailable,
)
"""Errors that all images may have at the moment, whatever their packages and platform."""

PASSING = (*OF_REGISTRY, NixUnavailable, PackerKilled)
"""Errors that may be over in a moment: they say nothing of the image."""

_OF_SET = (
    *(UnknownPackage, NotAPackage, AmbiguousPackage, PackageUnnameable, InterpretersDiffer),
    SystemUnsupported,
)
_REFUSAL = "refusing to evaluate"
"""How nixpkgs ends, or begins, why it has no such package: it is for other platforms, or broken."""


def is_lasting(error: NixeryError) -> bool:
    """Whether an error follows from the package set: there is no such image of that revision."""
    refused = isinstance(error, EvaluationFailed) and _REFUSAL in error.message.lower()
    return refused or isinstance(error, _OF_SET)


@attrs.frozen
class BuildFailure:
    """Why an image could not be made.

    :param build: the ID of the build that failed.
    """

    error: NixeryError
    build: str


class Failures:
    """Remembers failures for a while, so that clients that try again cost nothing.

    docker alone asks twice for every image: by HEAD and by GET.
    """

    def __init__(self, now: Callable[[], float], ttl: float) -> None:
        """
        :param now: seconds, from any moment on.
        :param ttl: seconds that a failure is remembered.
        """
        self._ttl = ttl
        self._recent: Recent[str, BuildFailure] = Recent(now, _MOST)

    def get(self, key: str) -> BuildFailure | None:
        """The recent failure of an image key; its error is a copy."""
        failure = self._recent.get(key, self._ttl)
        return None if failure is None else BuildFailure(copy.copy(failure.error), failure.build)

    def note(self, key: str, error: BaseException, build: str) -> None:
        """Remember a failure that would happen again."""
        if isinstance(error, NixeryError) and not isinstance(error, PASSING):
            # A copy has no traceback, which would hold all that Nix printed.
            self._recent.put(key, BuildFailure(copy.copy(error), build))


def _nothing(name: str) -> Sequence[Suggestion]:
    return ()


@attrs.frozen
class Hints:
    """Names of packages that failures mention, though nobody asked for them.

    :param suggest: suggests packages for a name that none has, without delay.
    :param for_all: whether histories of builds, which all clients read, may have hints.
    """

    suggest: Callable[[str], Sequence[Suggestion]] = _nothing
    for_all: bool = True

    def add(self, error: BaseException) -> None:
        """Add current hints to an error, which may be an old one."""
        if isinstance(error, UnknownPackage):
            error.meant = self.suggest(error.package)

    def recorded(self, error: BaseException) -> BaseException:
        """The error for a build's history."""
        match error:
            case UnknownPackage() if not self.for_all:
                return attrs.evolve(error, nearest=(), meant=())
            case NotAPackage() if not self.for_all:
                return attrs.evolve(error, inside=())
            case _:
                return error
