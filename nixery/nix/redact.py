"""What is nobody's business, left out of Nix's words."""

from nixery.model.closure import STORE
from nixery.model.events import Event, FetchStarted, Planned, Said, Traced
from nixery.model.paths import hide_paths, without_trace
from nixery.model.source import Source, hide_place
from nixery.nix.refusals import in_plain_words
from nixery.nix.words import ends, first_words

_ERROR = "error:"


def without_place(source: Source, store: str | None, event: Event, mark: str) -> Event:
    """An event without the places of the package source and of the store on this machine.

    :param store: the folder that the store is in; none for the machine's own store.
    :param mark: what stands between two of these is data, for an image say, and stays as it is.
    """
    if not isinstance(event, Said):
        return event
    text = event.text if store is None else event.text.replace(f"{store}{STORE}", STORE)
    pieces = text.split(mark)
    pieces[::2] = [hide_place(source, in_plain_words(source, piece)) for piece in pieces[::2]]
    return Said(event.level, mark.join(pieces))


def disclosed(event: Event, traces: bool) -> list[Event]:
    """The events that tell of one: what anybody may see, and what the daemon's log alone is told.

    :param traces: whether the operator has traces, source lines and paths seen by anybody.
    """
    match event:
        case FetchStarted(path=path, origin=origin):  # a binary cache may be a folder
            return [FetchStarted(path, hide_paths(origin))]
        case Planned(text=text):
            return [Planned(hide_paths(text))]
        case Said(level=level, text=text) if not traces:
            short = ends(text)
            if short.startswith(_ERROR):
                told = f"{_ERROR} {hide_paths(first_words(short))}"
            else:
                told = hide_paths(without_trace(short))
            shown: list[Event] = [Said(level, told)]
            return shown if told == text else [*shown, Traced(text)]
        case _:
            return [event]
