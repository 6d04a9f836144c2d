"""Images that are made before anybody asks for them, for each new revision of the package source.

They are made one at a time, each when no other build waits or runs; one that is being made gives
its turn to any that somebody waits for.
"""

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nixery.builds.builder import Builder
from nixery.builds.failures import PASSING
from nixery.builds.known_images import KnownImages
from nixery.coalesce import Coalescer
from nixery.model.errors import NixeryError
from nixery.model.image import Image, parse_image
from nixery.model.service_errors import ShuttingDown
from nixery.model.source import Pin
from nixery.model.wanted_ahead import WantedAhead
from nixery.reactor import IReactor
from nixery.repeats import Repeats

_CLIENT = "prebuild"


class Prebuild:
    """Makes images in advance."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        builder: Builder,
        images: KnownImages,
        wanted: WantedAhead,
        allowed: Callable[[Image], bool],
    ) -> None:
        """
        :param images: tells which ones are pulled most.
        :param allowed: whether there is anybody who may pull an image.
        """
        self._builder = builder
        self._images = images
        self._wanted = wanted
        self._allowed = allowed
        self._repeats = Repeats(reactor.seconds)
        self._looking: Coalescer[None, None] = Coalescer()
        self._again = False
        self._done: dict[Image, Pin] = {}  # the revision of which each was made, or can't be

    def look(self) -> Deferred[None]:
        """Look whether there is a new revision, and have images of it made.

        :return: fires when there is nothing more to be made.
        """
        return self._looking.join(None, self._look)

    def note_push(self) -> None:
        """The forge says that the source has changed; it waits for nothing."""
        looking = Deferred.fromCoroutine(self.pushed())
        looking.addErrback(lambda failure: failure.trap(ShuttingDown))

    async def pushed(self) -> None:
        """The source has changed: ask it anew, and look."""
        try:
            await self._builder.refresh()
        except NixeryError as error:
            self._log.warn("after a push to the source: {error}", error=str(error))
        if self._wanted:
            self._again = True  # a look that has begun may have missed it
            await self.look()

    async def stop(self) -> None:
        """Make nothing more."""
        await self._looking.stop()

    def _all(self) -> Iterator[Image]:
        yield from self._wanted.images
        most, builder = self._wanted.most_pulled, self._builder
        # Who pulls an index pulls the image of a platform behind it, which is made with the index.
        ranking = [parse_image(*each) for each in self._images.most_pulled(2 * most)]
        indexes = [image for image in ranking if not image.has_platform]
        made = {each for image in indexes for each in builder.of_platforms(image)}
        yield from [image for image in ranking if image not in made][:most]

    async def _look(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            images = dict.fromkeys(self._all())
            self._done = {image: pin for image, pin in self._done.items() if image in images}
            for image in images:
                if self._allowed(image):
                    await self._make(image)

    async def _make(self, image: Image) -> None:
        """Have an image made, unless that was done of the present revision."""
        try:
            pin = (await self._builder.pinned(image.tag)).pin
            if self._done.get(image) == pin:
                return
            await self._builder.manifest(image, client=_CLIENT, behind=True)
        except ShuttingDown:
            return
        except NixeryError as error:
            text = "{image} was not made in advance: {error}"
            name, cause = f"{image.name}:{image.tag}", " ".join(error.cause.split())
            self._repeats.warn(self._log, f"{name} {cause}", text, image=name, error=cause)
            if isinstance(error, PASSING):
                return
        self._done[image] = pin
