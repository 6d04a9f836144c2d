"""What is nobody's business, left out of Nix's words."""

from nixery.model.closure import STORE
from nixery.model.events import Event, Said
from nixery.model.source import Source, hide_place
from nixery.nix.refusals import in_plain_words


def without_place(source: Source, store: str | None, event: Event) -> Event:
    """An event without the places of the package source and of the store on this machine.

    :param store: the folder that the store is in; none for the machine's own store.
    """
    if not isinstance(event, Said):
        return event
    text = event.text if store is None else event.text.replace(f"{store}{STORE}", STORE)
    return Said(event.level, hide_place(source, in_plain_words(source, text)))
