"""Nix's messages as people are told them: what is left out, and what is said in other words."""

import pytest

from nixery.model.events import FetchStarted, LogLine, Planned, Said, Traced
from nixery.model.source import Channel, Flake, GitRepository, LocalFolder, Source
from nixery.nix.account import new_mark
from nixery.nix.messages import disclosed, explain_refusals, without_place

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
    """Nix's messages are shown without the path of the package folder; other sources have none,
    and the output of packages is not changed."""
    assert without_place(LocalFolder("/srv/set"), None, Said(0, text), MARK) == Said(0, shown)
    assert without_place(GitRepository("file:///srv/set"), None, Said(0, text), MARK) == Said(
        0, shown
    )
    for other in (LocalFolder("/"), Channel("nixos-unstable"), GitRepository("ssh://h/srv/set")):
        assert without_place(other, None, Said(0, text), MARK) == Said(0, text)
    assert without_place(LocalFolder("/srv/set"), None, LogLine("x", text), MARK) == LogLine(
        "x", text
    )


def test_data_between_marks() -> None:
    """Data for an image is not changed, whatever paths are in it, and is no refusal; Nix's text
    around it tells no place."""
    data = MARK + '{"workingDir": "/srv/set", "x": "access to path \'/a\' is forbidden in"}' + MARK
    text = f"at /srv/set/x.nix: {data} at /srv/set/y.nix"
    shown = Said(0, f"at set/x.nix: {data} at set/y.nix")
    assert without_place(LocalFolder("/srv/set"), None, Said(0, text), MARK) == shown


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
    """Text without a path, and the output of packages, is shown once, unchanged."""
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


SET = LocalFolder("/srv/sets/ours")
REPOSITORY = GitRepository("https://example.com/set.git")
PATH = "access to absolute path '{}' is forbidden in restricted mode"
PURE = "access to absolute path '/etc/x' is forbidden in {} mode (use '--impure' to override)"
MAY_NOT = "evaluation is confined: the package set may not read '{}'"


def test_every_version() -> None:
    """The messages of Nix 2.8, 2.26 and 2.34 about a file become one sentence."""
    restricted = PATH.format("/etc/x")
    canonical = restricted.replace("absolute", "canonical")
    pure = (PURE.format("pure eval"), PURE.format("pure evaluation"))
    for said in (restricted, canonical, *pure):
        assert explain_refusals(REPOSITORY, f"error: {said}") == "error: " + MAY_NOT.format(
            "/etc/x"
        )


@pytest.mark.parametrize(
    ("source", "path", "seen"),
    [
        (SET, "/srv/sets/beside/marker", "../beside/marker"),
        (SET, "/srv/marker", "../../marker"),
        (SET, "/etc/passwd", "/etc/passwd"),
        (REPOSITORY, "/nix/store/marker", "/nix/store/marker"),
        (Flake("github:example/set"), "/etc/passwd", "/etc/passwd"),
    ],
)
def test_paths(source: Source, path: str, seen: str) -> None:
    """A file near a folder is named from there, so that no place of the machine is told."""
    assert explain_refusals(source, PATH.format(path)) == MAY_NOT.format(seen)


def test_uris() -> None:
    """A URI that may not be fetched is named as it was written."""
    text = "error: access to URI 'https://example.com/x' is forbidden in restricted mode"
    said = "error: evaluation is confined: the package set may not fetch 'https://example.com/x'"
    assert explain_refusals(SET, text) == said


def test_a_trace() -> None:
    """Every such sentence of a long text is changed, and nothing else."""
    text = (
        f"error: {PATH.format('/srv/sets/a')}\n\n at x.nix:1:\n\n error: {PATH.format('/b')}\nend"
    )
    changed = without_place(SET, None, Said(0, text), new_mark())
    assert isinstance(changed, Said)
    said = f"error: {MAY_NOT.format('../a')}\n\n at x.nix:1:\n\n error: {MAY_NOT.format('/b')}\nend"
    assert changed.text == said


@pytest.mark.parametrize("path", ["", "x", "../x", "it's", "/it's", "~", "\\", "//"])
def test_what_a_set_makes_up(path: str) -> None:
    """Nothing that a set says in Nix's words keeps its text from being told."""
    assert MAY_NOT.format("")[:-2] in explain_refusals(SET, PATH.format(path))


@pytest.mark.parametrize("of", ["access to path '{}", "access to URI '{}", PATH + ", "])
def test_long_texts(of: str) -> None:
    """A text is looked through once, however often it says what a refusal begins with."""
    many = "".join(of.format(f"/{number}") for number in range(50_000))
    assert explain_refusals(REPOSITORY, f"{many} is forbidden in").count("/") >= 50_000
    assert explain_refusals(SET, f"{many} is forbidden in").endswith(" is forbidden in")


def test_other_texts() -> None:
    """Text that is no refusal stays unchanged."""
    for text in ("error: x", "access to absolute path '/x' is forbidden in some mode"):
        assert explain_refusals(SET, text) == text
