"""What a build tells of itself while it runs."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nixery.model.events import (
    BuildStarted,
    Collided,
    Event,
    FetchStarted,
    Found,
    Grouped,
    LogLine,
    Packed,
    Planned,
    Realised,
    Resolved,
    Said,
)
from nixery.model.image import Image


class Journal:
    """The events of one build, told to the daemon's log.

    Packages' own log lines and Nix's chatter are for the debug level: they may be millions.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, image: Image) -> None:
        self._clock = clock
        self._image = f"{image.name}:{image.tag}"
        self._began = clock.seconds()
        self._tell("building {image}")

    def emit(self, event: Event) -> None:
        """Take an event."""
        match event:
            case (
                Resolved()
                | Found()
                | BuildStarted()
                | Realised()
                | Collided()
                | Grouped()
                | Packed()
                | Said(level=0 | 1)
            ):
                self._tell("{image} +{seconds:.3f} s: {event}", event=event)
            case LogLine() | Said() | Planned() | FetchStarted() | _:
                self._log.debug("{image}: {event}", image=self._image, event=event)

    def done(self, digest: str) -> None:
        """The build succeeded."""
        self._tell("built {image} as {digest} in {seconds:.1f} s", digest=digest)

    def failed(self, reason: str) -> None:
        """The build failed."""
        self._tell("could not build {image} in {seconds:.1f} s: {reason}", reason=reason)

    def _tell(self, text: str, **facts: object) -> None:
        seconds = self._clock.seconds() - self._began
        self._log.info(text, image=self._image, seconds=seconds, **facts)
