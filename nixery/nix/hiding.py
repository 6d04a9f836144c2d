"""What is nobody's business, left out of Nix's words."""

from nixery.model.events import Event, Said
from nixery.model.source import Source, hide_place


def without_place(source: Source, event: Event) -> Event:
    """An event without the place of the package source on this machine, if it has one."""
    if isinstance(event, Said):
        return Said(event.level, hide_place(source, event.text))
    return event
