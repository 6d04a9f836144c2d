"""How long the phases of a build took, and what it made."""

from nixery.model.events import Event, Grouped, Packed, Queued, Realised, Resolved


class Timing:
    """Takes the events of a build one after another.

    :ivar phases: seconds by phase: ``queue`` until its turn, ``nix`` for evaluating, building and
        fetching, ``layers`` for grouping, packing and storing. A build that fails ends one; one
        that gives way waits in the queue again.
    :ivar layers: ``known`` and ``made`` layers, and the compressed ``bytes`` of these.
    """

    def __init__(self, began: float) -> None:
        """
        :param began: seconds since the epoch.
        """
        self.phases: dict[str, float] = {}
        self.layers = {"known": 0, "made": 0, "bytes": 0}
        self._phase = "queue"
        self._since = began

    def note(self, event: Event, seconds: float) -> None:
        """Take the next event.

        :param seconds: when it was, since the epoch.
        """
        match event:
            case Queued():
                self._next("queue", seconds)
            case Resolved():
                self._next("nix", seconds)
            case Realised():
                self._next("layers", seconds)
            case Grouped(known=known):
                self.layers["known"] = known
            case Packed(size=size):
                self.layers["made"] += 1
                self.layers["bytes"] += size

    def end(self, seconds: float) -> None:
        """The build is over."""
        self._next("", seconds)

    def _next(self, phase: str, seconds: float) -> None:
        # The clock of the world may be set back.
        spent = max(0.0, seconds - self._since)
        self.phases[self._phase] = self.phases.get(self._phase, 0.0) + spent
        self._phase, self._since = phase, seconds
