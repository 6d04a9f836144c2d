"""Which builds can't go on before another one's derivation is there."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nixery.model.events import Blocked, BuildStarted, BuildStopped, Event, Unblocked

B = TypeVar("B")


class Blocking(Generic[B]):
    """Takes note of what builds do, as far as they may wait for each other.

    Those that wait know the names of outputs, and those that make them the names of derivations,
    of which the former begin with.
    """

    def __init__(self, unblock: Callable[[B], None]) -> None:
        """
        :param unblock: is told of a build that was held, when what it needs is made no longer.
        """
        self._unblock = unblock
        self._makes: dict[B, set[str]] = {}
        self._blocked: dict[B, Sequence[str]] = {}
        self._held: dict[B, Sequence[str]] = {}

    def note(self, build: B, event: Event) -> bool:
        """Take an event of a build.

        :return: whether it matters to who waits for a turn.
        """
        match event:
            case BuildStarted(derivation=name):
                self._makes.setdefault(build, set()).add(name)
            case BuildStopped(derivation=name):
                self._makes.get(build, set()).discard(name)
                return self._look([name])
            case Blocked(outputs=outputs):
                self._blocked[build] = outputs
            case Unblocked():
                self._blocked.pop(build, None)
        return False

    def is_blocked(self, build: B) -> bool:
        """Whether a build waits for another."""
        return build in self._blocked

    def end(self, build: B) -> Sequence[str] | None:
        """A build does nothing any more.

        :return: the outputs that it waited for; none if it did not.
        """
        self._look(self._makes.pop(build, ()))
        return self._blocked.pop(build, None)

    def hold(self, build: B, outputs: Sequence[str]) -> None:
        """A build is to wait for outputs, without running."""
        self._held[build] = outputs

    def release(self, build: B) -> None:
        """A build waits no longer; harmless if it does not."""
        self._held.pop(build, None)

    def is_made(self, build: B) -> bool:
        """Whether somebody makes what a build is held for."""
        names = [name for made in self._makes.values() for name in made]
        return _any_of(self._held.get(build, ()), names)

    def _look(self, names: Sequence[str] | set[str]) -> bool:
        """Some derivations are made no longer."""
        freed = [build for build, outputs in self._held.items() if _any_of(outputs, names)]
        for build in freed:
            self._unblock(build)
        return bool(freed)


def _any_of(outputs: Sequence[str], derivations: Sequence[str] | set[str]) -> bool:
    return any(o == d or o.startswith(f"{d}-") for o in outputs for d in derivations)
