"""What failed images are told with: names of packages that were not asked for."""

from collections.abc import Callable, Sequence

import attrs

from nixery.model.errors import NotAPackage, UnknownPackage
from nixery.model.suggestions import Suggestion


def _nothing(name: str) -> Sequence[Suggestion]:
    return ()


@attrs.frozen
class Hints:
    """Adds hints to errors, and takes them out.

    :param suggest: says what a name that no package has may stand for, without delay.
    :param for_all: whether histories of builds have hints: all who may ask for an image read them.
    """

    suggest: Callable[[str], Sequence[Suggestion]] = _nothing
    for_all: bool = True

    def add(self, error: BaseException) -> None:
        """Have an error say what is known at this moment: it may be remembered for a while."""
        if isinstance(error, UnknownPackage):
            error.meant = self.suggest(error.package)

    def recorded(self, error: BaseException) -> BaseException:
        """An error as histories have it."""
        match error:
            case UnknownPackage() if not self.for_all:
                return attrs.evolve(error, nearest=(), meant=())
            case NotAPackage() if not self.for_all:
                return attrs.evolve(error, inside=())
            case _:
                return error
