"""What is left out of Nix's words."""

import pytest

from nixery.model.events import Event, LogLine, Said
from nixery.model.source import Channel, Folder, Source
from nixery.nix.hiding import hiding_folder


def told(source: Source, event: Event) -> list[Event]:
    events: list[Event] = []
    hiding_folder(source, events.append)(event)
    return events


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at /srv/set/x.nix:3:4:", "at set/x.nix:3:4:"),
        ("opening '/srv/set'", "opening 'set'"),
        ("/srv/settings and /srv/set", "/srv/settings and set"),
        ("/nix/store/x", "/nix/store/x"),
    ],
)
def test_where_a_package_folder_lies(text: str, shown: str) -> None:
    """What Nix says is told without the path of the package folder; other sources have none, and
    what packages print is their own."""
    assert told(Folder("/srv/set"), Said(0, text)) == [Said(0, shown)]
    for other in (Folder("/"), Channel("nixos-unstable")):
        assert told(other, Said(0, text)) == [Said(0, text)]
    assert told(Folder("/srv/set"), LogLine("x", text)) == [LogLine("x", text)]
