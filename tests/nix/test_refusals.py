"""What a confined evaluation was refused, in an author's words."""

import pytest

from nixery.model.events import Said
from nixery.model.source import Flake, Folder, GitRepository, Source
from nixery.nix.delimiters import new_mark
from nixery.nix.redact import without_place
from nixery.nix.refusals import in_plain_words

SET = Folder("/srv/sets/ours")
REPOSITORY = GitRepository("https://example.com/set.git")
PATH = "access to absolute path '{}' is forbidden in restricted mode"
PURE = "access to absolute path '/etc/x' is forbidden in {} mode (use '--impure' to override)"
MAY_NOT = "evaluation is confined: the package set may not read '{}'"


def test_every_version() -> None:
    """What Nix 2.8, 2.26 and 2.34 say of a file is one sentence."""
    restricted = PATH.format("/etc/x")
    canonical = restricted.replace("absolute", "canonical")
    pure = (PURE.format("pure eval"), PURE.format("pure evaluation"))
    for said in (restricted, canonical, *pure):
        assert in_plain_words(REPOSITORY, f"error: {said}") == "error: " + MAY_NOT.format("/etc/x")


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
    assert in_plain_words(source, PATH.format(path)) == MAY_NOT.format(seen)


def test_uris() -> None:
    """What may not be fetched is named as it was written."""
    text = "error: access to URI 'https://example.com/x' is forbidden in restricted mode"
    said = "error: evaluation is confined: the package set may not fetch 'https://example.com/x'"
    assert in_plain_words(SET, text) == said


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
    assert MAY_NOT.format("")[:-2] in in_plain_words(SET, PATH.format(path))


@pytest.mark.parametrize("of", ["access to path '{}", "access to URI '{}", PATH + ", "])
def test_long_texts(of: str) -> None:
    """A text is looked through once, however often it says what a refusal begins with."""
    many = "".join(of.format(f"/{number}") for number in range(50_000))
    assert in_plain_words(REPOSITORY, f"{many} is forbidden in").count("/") >= 50_000
    assert in_plain_words(SET, f"{many} is forbidden in").endswith(" is forbidden in")


def test_other_texts() -> None:
    """What is no refusal stays as it is."""
    for text in ("error: x", "access to absolute path '/x' is forbidden in some mode"):
        assert in_plain_words(SET, text) == text
