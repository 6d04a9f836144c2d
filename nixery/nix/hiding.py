"""What is nobody's business, left out of Nix's words."""

import re

from nixery.model.events import Emit, Event, Said
from nixery.model.source import Folder, Source


def hiding_folder(source: Source, emit: Emit) -> Emit:
    """Tells events without the path of the package folder, if the source is one."""
    if not isinstance(source, Folder) or not source.path.strip("/"):
        return emit
    path = source.path.rstrip("/")
    whole = re.compile(re.escape(path) + r"(?![^/:'\"\s])")
    name = path.rpartition("/")[2]

    def hide(event: Event) -> None:
        if isinstance(event, Said) and path in event.text:
            event = Said(event.level, whole.sub(lambda _: name, event.text))
        emit(event)

    return hide
