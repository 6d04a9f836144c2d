"""What errors say to people."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from nixery.model import build_errors, package_errors, request_errors, service_errors
from nixery.model.build_errors import BuildFailed, BuildTimedOut, PackerKilled, PackingFailed
from nixery.model.errors import NixeryError
from nixery.model.package_errors import EvaluationFailed, NotAPackage, UnknownPackage
from nixery.model.request_errors import DigestInvalid, NameInvalid, TagInvalid
from nixery.model.service_errors import NixUnavailable, SourceUnavailable, StorageUnavailable
from nixery.model.suggestions import Suggestion

ROOMS = (request_errors, package_errors, build_errors, service_errors)
KINDS = [
    kind
    for room in ROOMS
    for kind in vars(room).values()
    if isinstance(kind, type) and kind.__module__ == room.__name__
]
VALUES: dict[str, Any] = {"size": 17, "limit": 16, "seconds": 17, "meant": []}
LISTS = ("nearest", "matches", "names", "inside", "log", "packages")


def example(kind: type[NixeryError]) -> NixeryError:
    """An error whose every fact is a word that can be found again."""
    facts: dict[str, Any] = {}
    for field in attrs.fields(kind):  # type: ignore[arg-type]
        facts[field.name] = VALUES.get(field.name, f"<{field.name}>")
        if field.name in LISTS:
            facts[field.name] = [f"<{field.name} {n}>" for n in range(2)]
    return kind(**facts)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_fact_is_told(kind: type[NixeryError]) -> None:
    """The sentence of an error holds all that the error knows, except for traces."""
    error = example(kind)
    said = str(error)
    for name, value in attrs.asdict(error).items():  # type: ignore[arg-type]
        for each in value if isinstance(value, list) else [value]:
            assert name in ("trace", "silent") or str(each) in said


def test_messages_are_on_one_page() -> None:
    """``messages.txt`` has the message of every error, as people read it."""
    page = "".join(f"{each.__name__}:\n    {example(each)}\n" for each in KINDS)
    assert page == Path(__file__).with_name("messages.txt").read_text("utf-8")


def test_hints_are_left_out() -> None:
    """Where there is nothing to suggest, the sentence has no empty hint."""
    assert str(UnknownPackage("x")) == "there is no package 'x' in this package set"
    assert str(NotAPackage("x", "a string")) == "'x' is not a package but a string"
    assert str(BuildFailed("x-1", "no")) == "x-1 failed to build: no"
    assert "did you mean a, b or c?" in str(UnknownPackage("x", ["a", "b", "c"]))
    assert "did you mean a?" in str(UnknownPackage("x", ["a"]))


def test_what_is_meant_is_told_alone() -> None:
    """Names that are merely like the unknown one are told if there is nothing better, and of all
    hints no more than three, also to programs."""
    meant = [Suggestion("ripgrep", "rg"), *(Suggestion(f"{n}.rg") for n in range(9))]
    error = UnknownPackage("rg", list("abcd"), None, meant)
    assert "mean ripgrep (it has the program rg), 0.rg or 1.rg?" in str(error)
    assert (error.public().nearest, error.public().meant) == (list("abc"), meant[:3])
    assert "did you mean a, b or c?" in str(UnknownPackage("rg", list("abcd")))


@pytest.mark.parametrize(
    "error",
    [
        NameInvalid("x" * 10_000, "no"),
        TagInvalid("x" * 10_000),
        DigestInvalid("x" * 10_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_was_asked_for_is_not_sent_back_whole(error: NixeryError) -> None:
    """An overlong name, tag or digest is quoted in part."""
    assert len(str(error)) < 300


LOCAL = "opening file '/home/me/set/x.nix': no, nor \"/a b/c\" (/srv/data/y)"


@pytest.mark.parametrize(
    "error",
    [
        EvaluationFailed(LOCAL),
        BuildFailed("x-1", LOCAL),
        SourceUnavailable("the folder set", LOCAL),
        NixUnavailable(LOCAL),
        StorageUnavailable(LOCAL),
        PackingFailed("/srv/data/y", LOCAL),
        PackerKilled("/srv/data/y", LOCAL),
    ],
    ids=lambda error: type(error).__name__,
)
def test_clients_are_not_told_where_files_lie(error: NixeryError) -> None:
    """What clients are told names files by their last steps; the operator is told all."""
    told = error.public()
    assert type(told) is type(error)
    for text in (str(told), told.cause, str(attrs.asdict(told))):  # type: ignore[arg-type]
        assert not any(place in text for place in ("/home", "/a b", "/srv"))
    assert "x.nix" in str(told)
    assert "/home/me/set/x.nix" in str(error)


def test_logs_are_left_out_of_causes() -> None:
    """The cause of a failed build is a line, without the end of its log."""
    for error in (BuildFailed("x-1", "no", ["a"]), BuildTimedOut("x-1", 3, ["a"])):
        assert str(error) == f"{error.cause}; the end of its log:\na"
    silent = BuildTimedOut("x-1", 3, silent=True)
    assert str(silent) == "x-1 printed nothing for 3 s and was stopped"
