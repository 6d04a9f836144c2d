"""What is left out of Nix's words."""

import pytest

from nixery.model.events import FetchStarted, LogLine, Planned, Said, Traced
from nixery.model.source import Channel, Folder, GitRepository
from nixery.nix.delimiters import new_mark
from nixery.nix.redact import disclosed, without_place

MARK = new_mark()


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
    assert without_place(Folder("/srv/set"), None, Said(0, text), MARK) == Said(0, shown)
    assert without_place(GitRepository("file:///srv/set"), None, Said(0, text), MARK) == Said(
        0, shown
    )
    for other in (Folder("/"), Channel("nixos-unstable"), GitRepository("ssh://h/srv/set")):
        assert without_place(other, None, Said(0, text), MARK) == Said(0, text)
    assert without_place(Folder("/srv/set"), None, LogLine("x", text), MARK) == LogLine("x", text)


def test_data_between_marks() -> None:
    """What a set says of an image stays as it is, whatever paths are in it, and is no refusal; what
    Nix says beside that tells no place."""
    data = MARK + '{"workingDir": "/srv/set", "x": "access to path \'/a\' is forbidden in"}' + MARK
    text = f"at /srv/set/x.nix: {data} at /srv/set/y.nix"
    shown = Said(0, f"at set/x.nix: {data} at set/y.nix")
    assert without_place(Folder("/srv/set"), None, Said(0, text), MARK) == shown


def test_where_a_store_lies() -> None:
    """Files of a store in a folder are told as they are to be found in the images."""
    said = Said(0, "error: in '/srv/own/nix/store/x/default.nix', not /srv/own")
    shown = Said(0, "error: in '/nix/store/x/default.nix', not /srv/own")
    assert without_place(Channel("nixos-unstable"), "/srv/own", said, MARK) == shown
    assert without_place(Channel("nixos-unstable"), None, said, MARK) == said


TRACED = (
    "error: it is unfree,\n       see '/srv/set/x.nix'\n\n       at /srv/set/x.nix:5:1:\n\n"
    "            5|  x = secret\n             |      ^\n\n       … while evaluating 'x'"
)
NEWER = (
    "error:\n       … while calling the 'throw' builtin\n         at /srv/set/x.nix:5:1:\n"
    '            5|  x = secret\n\n       error: it is unfree,\n       see "/srv/set/x.nix"'
)


@pytest.mark.parametrize(("text", "quote"), [(TRACED, "'"), (NEWER, '"')])
def test_traces_are_for_the_log(text: str, quote: str) -> None:
    """Anybody is told the message of an error, and the daemon's log besides the whole of it."""
    told, traced = disclosed(Said(0, text), traces=False)
    assert told == Said(0, f"error: it is unfree,\nsee {quote}…/x.nix{quote}")
    assert traced == Traced(text)
    assert disclosed(Said(0, text), traces=True) == [Said(0, text)]


def test_warnings_without_source_lines() -> None:
    """A warning is told without the place that it is about."""
    text = "warning: it is old\n       at /srv/set/x.nix:5:1:\n            5|  x = secret"
    assert disclosed(Said(1, text), traces=False) == [Said(1, "warning: it is old"), Traced(text)]


def test_what_is_for_anybody() -> None:
    """What names no file, and what packages print, is told once, as it is."""
    for event in (Said(0, "error: no route to https://example.com/x"), LogLine("x", "/srv/x:1:2")):
        assert disclosed(event, traces=False) == [event]


def test_binary_caches_in_folders() -> None:
    """Where a binary cache lies on this machine is not told."""
    for origin, shown in (("file:///srv/cache", "…/cache"), ("https://c.example.com/x/y",) * 2):
        assert disclosed(FetchStarted("/nix/store/x", origin), traces=False) == [
            FetchStarted("/nix/store/x", shown)
        ]
        copying = Planned(f"copying path '/nix/store/{'a' * 32}-x-1' from '{origin}'")
        assert disclosed(copying, traces=False) == [Planned(f"copying path 'x-1' from '{shown}'")]


def test_long_words() -> None:
    """A text without end is told in part; the log's own bounds are another matter."""
    told, traced = disclosed(Said(0, "error: " + "x/" * 5_000_000 + " /srv/end"), traces=False)
    assert isinstance(told, Said)
    assert len(told.text) < 25_000
    assert told.text.startswith("error: x/x")
    assert isinstance(traced, Traced)
