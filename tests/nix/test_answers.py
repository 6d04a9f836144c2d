"""What Nix said, as packages and errors."""

from pathlib import Path

import pytest

from nixery.model import errors
from nixery.model.events import Event, Found, LogLine, Said
from nixery.model.image import parse_image
from nixery.model.source import GitRepository, PinnedSource
from nixery.nix.answers import TAIL, Account, failure
from nixery.nix.events import EventParser

SAMPLES = Path(__file__).parent / "samples"
IMAGE = parse_image("shell/git", "latest")
PINNED = PinnedSource(GitRepository("https://user:secret@example.com/x"), "0" * 40)
DRV = "/nix/store/" + "a" * 32 + "-x-1.0.drv"
OUT = "/nix/store/" + "b" * 32 + "-x-1.0"
FOUND = Said(
    0,
    'trace: @nixery@{"found":[{"attribute":["pkgs","X"],"name":"x-1.0","package":"pkgs.x",'
    f'"path":"{OUT}"}}]}}@nixery@',
)
SET = '@nixery@{"stage":"evaluate"}@nixery@'


def account(*events: Event) -> Account:
    made = Account()
    for event in events:
        made.note(event)
    return made


def error(*events: Event, code: int | None = 1) -> errors.NixeryError:
    return failure(account(*events), code, IMAGE, PINNED, 600)


def refusal(document: str) -> errors.NixeryError:
    return error(Said(0, f"error: @nixery@{document}@nixery@\n\n       … while evaluating 'x'"))


def test_found_packages() -> None:
    """Evaluation says which attribute each package is, and which store path."""
    made = Account()
    assert made.note(FOUND) == [Found("pkgs.x", "pkgs.X", "x-1.0")]
    (root,) = made.roots()
    assert (root.package, root.attribute, root.path) == ("pkgs.x", "pkgs.X", OUT)


@pytest.mark.parametrize("version", ["2.8", "2.26", "2.34"])
def test_failed_builds(version: str) -> None:
    """The derivation that failed by itself is named, with its reason and its last lines."""
    parser = EventParser()
    lines = (SAMPLES / f"build-fail-{version}.ndjson").read_bytes().splitlines()
    events = [event for line in lines for event in parser.feed(line)]
    failed = error(FOUND, *events, code=100)
    assert isinstance(failed, errors.BuildFailed)
    assert failed.derivation == "broken-1.0"
    assert failed.reason == "its builder failed with exit code 2"
    assert failed.log[-1] == "error: undeclared identifier 'frobnicate'"


@pytest.mark.parametrize(
    "text",
    [
        f"error: building of '{DRV}!out' from .drv file timed out after 5 seconds",
        f"error: building of '{DRV}^out' from .drv file timed out after 5 seconds",
        f"error: Cannot build '{DRV}'.\n       Reason: timed out after 5 seconds.",
    ],
)
def test_time_outs(text: str) -> None:
    """A builder that ran out of time is named, with the limit and its last lines."""
    failed = error(FOUND, LogLine("x-1.0", "going"), Said(0, text), code=101)
    assert isinstance(failed, errors.BuildTimedOut)
    assert (failed.derivation, failed.seconds, list(failed.log)) == ("x-1.0", 600, ["going"])


def test_paths_of_this_machine_are_not_told() -> None:
    """Where a chroot store lies is nobody else's business."""
    text = f"error: builder for '{DRV}' failed to produce output path for output 'out' at '/srv/x'"
    failed = error(FOUND, Said(0, text))
    assert isinstance(failed, errors.BuildFailed)
    assert "/srv" not in str(failed)


def test_unknown_packages() -> None:
    """An unknown package comes with the names that it is most like, as images ask for them."""
    failed = refusal('{"error":"missing","package":"gti","at":[],"names":["Git","gitFull","x+"]}')
    assert isinstance(failed, errors.UnknownPackage)
    assert failed.nearest[0] == "git"


def test_unknown_nested_packages() -> None:
    """The nearest names of a nested package are found where it was looked for."""
    document = '{"error":"missing","package":"hs.shelcheck","at":["HS"],"names":["ShellCheck"]}'
    failed = refusal(document)
    assert isinstance(failed, errors.UnknownPackage)
    assert list(failed.nearest) == ["hs.shellcheck"]


def test_missing_meta_packages() -> None:
    """A missing package that nobody named is explained by the meta-package it belongs to."""
    failed = refusal('{"error":"missing","package":"moreutils","at":[],"names":[]}')
    assert isinstance(failed, errors.UnknownPackage)
    assert failed.meta == "shell"


def test_other_refusals() -> None:
    """What is no package, ambiguous, for another system, or no set, is said to be so."""
    kind = refusal('{"error":"kind","package":"hs","kind":"a set","inside":["ShellCheck","_x"]}')
    assert isinstance(kind, errors.NotAPackage)
    assert list(kind.inside) == ["hs.shellcheck"]
    ambiguous = refusal('{"error":"ambiguous","package":"a","matches":[["A"],["a","b"]]}')
    assert isinstance(ambiguous, errors.AmbiguousPackage)
    assert list(ambiguous.matches) == ["A", "a.b"]
    assert isinstance(refusal('{"error":"system"}'), errors.SystemUnsupported)
    assert isinstance(refusal('{"error":"set","kind":"a list"}'), errors.EvaluationFailed)


def test_evaluation_errors() -> None:
    """The set's own message is told, with the package's name if it has none, without a trace."""
    text = (
        "error: it is unfree\n\n       at /set.nix:5:1:\n\n            5|  x = throw …\n"
        '       … @nixery@{"stage":"evaluate","package":"pkgs.x"}@nixery@\n'
    )
    failed = error(Said(0, text))
    assert isinstance(failed, errors.EvaluationFailed)
    assert failed.message == "pkgs.x: it is unfree"


def test_faults_of_the_source() -> None:
    """A source that can't be fetched is not the set's fault, and its credentials are not told."""
    failed = error(Said(0, f'error: no route\n… @nixery@{{"stage":"fetch"}}@nixery@\n… {SET}'))
    assert isinstance(failed, errors.SourceUnavailable)
    assert "no route" in str(failed)
    assert "secret" not in str(failed)


@pytest.mark.parametrize("found", [True, False])
def test_full_disks(found: bool) -> None:
    """A full store is a full store, whenever it shows."""
    text = Said(0, f"error: writing to file: No space left on device {SET}")
    assert isinstance(error(*([FOUND] if found else []), text), errors.StorageFull)


def test_faults_of_nix() -> None:
    """What neither the source nor the set did is Nix's own fault."""
    assert isinstance(error(Said(0, "error: cannot open store")), errors.NixUnavailable)
    assert isinstance(error(FOUND, Said(0, "error: lost the daemon")), errors.NixUnavailable)
    assert isinstance(error(code=None), errors.NixUnavailable)
    assert str(error())


def test_forged_marks() -> None:
    """A set that prints our marks with something else in them confuses nobody."""
    for text in ("@nixery@{nonsense}@nixery@", "@nixery@{}@nixery@", '@nixery@{"x":1}@nixery@'):
        assert isinstance(error(Said(0, text + SET)), errors.EvaluationFailed)


def test_memory_is_bounded() -> None:
    """However much a package prints, its last lines are kept, and each but in part."""
    made = account(*(LogLine("x", f"{n} " + "y" * 10_000) for n in range(1000)))
    kept = made.tails["x"]
    assert len(kept) == TAIL
    assert kept[-1].startswith("999 ")
    assert all(len(line) <= 400 for line in kept)


def test_what_terminals_obey_is_taken_out() -> None:
    """No control character of a log is in an error."""
    made = account(LogLine("x", "a\x1b[31mb\x07\rc"))
    assert list(made.tails["x"]) == ["a[31mbc"]
