"""The start page and its live parts: ``/``, ``/name`` for what is typed, ``/activity``."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from klein import Klein
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from nixery.history.history import History
from nixery.http.answers import RefusedRequest
from nixery.http.fair import FairTurns
from nixery.http.gate import send_body
from nixery.http.operation import HTML, text_answers
from nixery.http.request import RegistryRequest
from nixery.http.routes import Errors, Route
from nixery.interfaces import IBuilder, ICatalogue
from nixery.model.errors import NixeryError
from nixery.model.example import USUAL
from nixery.model.package_set import Package
from nixery.model.suggestions import MOST
from nixery.model.tags import LATEST
from nixery.model.typed_name import META_PACKAGES, TypedName
from nixery.web.auth import OPEN, Auth
from nixery.web.pages.naming_part import Completion, NamedImage, naming_parts
from nixery.web.pages.page import prefers_html, send_page, send_parts, send_text
from nixery.web.pages.start_page import (
    Activity,
    Start,
    activity_part,
    start_page,
    start_text,
)
from nixery.web.stored_images import StoredImages

T = TypeVar("T")

_RECENT = 8
_MOST_TAGS = 40
_MOST_TYPED = 300  # characters
_PATIENCE = 3.0
"""Seconds that a page waits for the package source."""
_SUGGESTED = 8
_LOOKED_AT = 30
"""Packages of which some can't be named, or not be seen."""
_CHECKED = 8
"""Words of a name that are looked up."""


class StartApi:
    """Answers what the start page shows, by GET and HEAD."""

    app = Klein()

    def __init__(
        self,
        clock: IReactorTime,
        builder: IBuilder,
        history: History | None,
        catalogue: ICatalogue | None,
        images: StoredImages | None,
        auth: Auth = OPEN,
        example: Callable[[], str] = lambda: USUAL,
    ) -> None:
        """
        :param history: the builds that are shown; none to show none.
        :param catalogue: suggests packages; none for no suggestions.
        :param images: those that are shown; none to show none.
        :param auth: says which images a client may see.
        :param example: names an image that can be pulled.
        """
        self._clock = clock
        self._builder = builder
        self._history = history
        self._catalogue = catalogue
        self._images = images
        self._auth = auth
        self._example = example
        self._turns = FairTurns(clock, share=0.25)

    @app.route("/", endpoint=Route(errors=Errors.PAGE))
    async def start(self, request: RegistryRequest) -> None:
        """The start page: a field to name an image, and what is served."""
        fault, provenance, tags = "", None, list[str]()
        try:
            provenance = await self._patiently(self._builder.provenance())
            tags = [] if self._auth.is_selective else await self._patiently(self._builder.tags())
        except NixeryError as error:
            fault = str(error.public())
        except TimeoutError:
            fault = "it does not respond"
        async with self._turns.turn(request.network):
            naming, activity = await self._naming(request), await self._activity(request)
            start = Start(naming, activity, provenance, fault, tags[:_MOST_TAGS])
            if prefers_html(request):
                body = send_page(request, start_page(start))
            else:
                body = send_text(request, start_text(start))
        await send_body(request, body)

    @app.route("/name", endpoint=Route(errors=Errors.PAGE, operations=text_answers(HTML)))
    async def name(self, request: RegistryRequest) -> None:
        """The parts of the start page that follow what is typed."""
        async with self._turns.turn(request.network):
            body = send_parts(request, naming_parts(await self._naming(request)))
        await send_body(request, body)

    @app.route("/activity", endpoint=Route(errors=Errors.PAGE, operations=text_answers(HTML)))
    async def activity(self, request: RegistryRequest) -> None:
        """The part of the start page that changes by itself."""
        async with self._turns.turn(request.network):
            body = send_parts(request, [activity_part(await self._activity(request))])
        await send_body(request, body)

    def _patiently(self, asking: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """An answer of the package source, or a ``TimeoutError``."""
        return Deferred.fromCoroutine(asking).addTimeout(_PATIENCE, self._clock)

    async def _naming(self, request: RegistryRequest) -> NamedImage:
        host, typed = request.asked_host, request.parameter("q")[:_MOST_TYPED]
        name = TypedName.parse(typed, host)
        completions, ready = await self._completions(request, name)
        made = None
        if self._images is not None and name.words:
            with suppress(RefusedRequest):
                made, _ = await self._images.find(request, name.name)
        return NamedImage(
            host,
            request.origin.startswith("http:"),
            typed,
            name,
            self._example(),
            completions,
            list(self._unknown(request, name, _is_completed(name, completions))),
            made,
            ready,
        )

    async def _completions(
        self, request: RegistryRequest, name: TypedName
    ) -> tuple[list[Completion], bool]:
        """Packages, meta-packages or tags that the last word may become, and whether these are all
        that there will be in a moment."""
        if name.names_tag:
            return await self._tags(request, name), True
        meta = [
            Completion(each, name.completed(each), about=about)
            for each, about in META_PACKAGES.items()
            if each.startswith(name.last) and (name.last or not name.words)
        ]
        if not name.last or self._catalogue is None:
            return meta, True
        result = await self._catalogue.search(name.last, _LOOKED_AT)
        found = [
            Completion(p.image, name.completed(p.image), _note(p, name.last), p.description)
            for p in result.packages
            if p.image and self._auth.may_see(request, p.image)
        ]
        return [*meta, *found][:_SUGGESTED], result.ready or result.fault != ""

    async def _tags(self, request: RegistryRequest, name: TypedName) -> list[Completion]:
        begun = "" if name.tag == LATEST else name.tag
        try:
            tags = await self._patiently(self._builder.tags())
        except (NixeryError, TimeoutError):
            return []
        fitting = (tag for tag in tags if tag.startswith(begun) and tag != begun)
        seen = (tag for tag in fitting if self._auth.may_see(request, name.path, tag))
        return [Completion(tag, name.completed(tag)) for tag in islice(seen, _SUGGESTED)]

    def _unknown(
        self, request: RegistryRequest, name: TypedName, is_completed: bool
    ) -> Iterator[tuple[str, list[Completion]]]:
        """Words that no package has for a name.

        :param is_completed: whether the last word may be the beginning of another.
        """
        if self._catalogue is None or name.fault:
            return
        for word in name.packages[:_CHECKED]:
            if self._catalogue.lacks(word) and not (is_completed and word == name.last):
                meant = (each.name for each in self._catalogue.suggest(word))
                seen = (each for each in meant if self._auth.may_see(request, each))
                yield word, [Completion(e, name.replaced(word, e)) for e in islice(seen, MOST)]

    async def _activity(self, request: RegistryRequest) -> Activity:
        history, images = self._history, self._images
        running = [] if history is None else history.running()
        seen = (head for head in running if self._auth.may_see(request, head.name, head.tag))
        return Activity(
            [
                (h, history.state(h), history.waiting(h.id))
                for h in islice(seen, _RECENT)
                if history
            ],
            [] if images is None else await images.recent(request, _RECENT),
        )


def _is_completed(name: TypedName, completions: Sequence[Completion]) -> bool:
    """Whether the last word may be the beginning of another, or is a program; a search also finds
    packages that have it in their descriptions alone."""
    return any(name.last in f"{each.text} {each.note}".lower() for each in completions)


def _note(package: Package, word: str) -> str:
    """The version of a package, and why one of another name was found."""
    named = any(word in name.lower() for name in (package.image, package.attribute))
    programs = (package.program, *package.programs)
    has = [] if named else [each for each in programs if each.lower() == word][:1]
    return " ".join([package.version, *(f"(it has the program {each})" for each in has)])
