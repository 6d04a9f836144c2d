"""Why a run of Nix failed, and its account."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.build_errors import BuildFailed, BuildTimedOut
from nixery.model.errors import NixeryError
from nixery.model.events import BuildStopped, Event, Found, LogLine, Said
from nixery.model.image import parse_image
from nixery.model.package_errors import (
    AmbiguousPackage,
    EvaluationFailed,
    NotAPackage,
    PackageUnnameable,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.service_errors import NixUnavailable, SourceUnavailable, StorageFull
from nixery.model.source import Commit, GitRepository, PinnedSource
from nixery.nix.account import TAIL, Account, new_mark
from nixery.nix.failure import failure
from nixery.nix.internal_json import EventParser, Failing

SAMPLES = Path(__file__).parent / "samples"
IMAGE = parse_image("shell/git", "latest")
URL = "https://user:secret@example.com/x"
PINNED = PinnedSource(GitRepository(URL), Commit(URL, "0" * 40))
DRV = "/nix/store/" + "a" * 32 + "-x-1.0.drv"
OUT = "/nix/store/" + "b" * 32 + "-x-1.0"
MARK = new_mark()
ABOUT = json.dumps(
    {"version": "1.0", "description": "", "homepage": "", "licenses": [], "cpe": "", "purls": []}
)
FOUND = Said(
    0,
    f'trace: {MARK}{{"found":[{{"attribute":["pkgs","X"],"name":"x-1.0","package":"pkgs.x",'
    f'"path":"{OUT}","others":[],"program":"","about":{ABOUT}}}],"library":false}}{MARK}',
)
SET = f'{MARK}{{"stage":"evaluate"}}{MARK}'

KEYS = ["error", "found", "stage", "package", "at", "names", "kind", "inside", "matches", "path"]
FORGED = [
    *(
        "{nonsense}",
        "{}",
        '{"x":1}',
        '{"found":3}',
        '{"found":[{"package":"x"}]}',
        '{"found":null}',
    ),
    *('{"error":"missing"}', '{"error":3}', '{"error":"kind","inside":[1]}', '{"error":"new"}'),
    *('{"stage":3}', '{"package":4,"stage":"evaluate"}', '{"x":' + "[" * 100_000 + "}"),
]


def account(*events: Event | Failing) -> Account:
    made = Account(MARK)
    for event in events:
        made.note(event)
    return made


def error(*events: Event | Failing, code: int | None = 1) -> NixeryError:
    return failure(account(*events), code, IMAGE, PINNED, 600)


def refusal(document: str) -> NixeryError:
    return error(Said(0, f"error: {MARK}{document}{MARK}\n\n       … while evaluating 'x'"))


def test_found_packages() -> None:
    """Evaluation says which attribute each package is, and which store path."""
    made = Account(MARK)
    assert made.note(FOUND) == [Found("pkgs.x", "pkgs.X", "x-1.0")]
    assert not made.has_library
    assert account(Said(0, FOUND.text.replace('"library":false', '"library":true'))).has_library
    (root,) = made.roots()
    assert (root.package, root.attribute, root.path) == ("pkgs.x", "pkgs.X", OUT)


@pytest.mark.parametrize("version", ["2.8", "2.26", "2.34"])
def test_failed_builds(version: str) -> None:
    """The derivation that failed by itself is named, with its reason and its last lines."""
    parser = EventParser()
    lines = (SAMPLES / f"build-fail-{version}.ndjson").read_bytes().splitlines()
    events = [event for line in lines for event in parser.feed(line)]
    failed = error(FOUND, *events, code=100)
    assert isinstance(failed, BuildFailed)
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
    """A builder that ran out of time is named, with Nix's own limit and its last lines."""
    failed = error(FOUND, LogLine("x-1.0", "going"), Said(0, text), code=101)
    assert isinstance(failed, BuildTimedOut)
    assert (failed.derivation, failed.seconds, list(failed.log)) == ("x-1.0", 5, ["going"])


def test_paths_of_this_machine_are_not_told() -> None:
    """Where a chroot store lies is nobody else's business."""
    text = f"error: builder for '{DRV}' failed to produce output path for output 'out' at '/srv/x'"
    failed = error(FOUND, Said(0, text))
    assert isinstance(failed, BuildFailed)
    assert "/srv" not in str(failed)


def test_unknown_packages() -> None:
    """An unknown package comes with the names that it is most like, as images ask for them."""
    failed = refusal(
        '{"error":"missing","package":"gti","at":[],"names":["Git","gitFull","x+"],"dotted":[]}'
    )
    assert isinstance(failed, UnknownPackage)
    assert failed.nearest[0] == "git"


def test_unknown_nested_packages() -> None:
    """The nearest names of a nested package are found where it was looked for."""
    document = {"error": "missing", "package": "hs.shelcheck", "at": ["HS"]}
    failed = refusal(json.dumps({**document, "names": ["ShellCheck"], "dotted": []}))
    assert isinstance(failed, UnknownPackage)
    assert list(failed.nearest) == ["hs.shellcheck"]


@pytest.mark.parametrize(
    ("package", "at", "dotted", "attribute"),
    [
        ("a.b", [], [["a.b"]], '"a.b"'),
        ("a.b.c", [], [["A.b"]], '"A.b"'),
        ("a.b", ["a"], [["a.b"]], '"a.b"'),
        ("x.a.b", ["x"], [["x", "a.b"]], 'x."a.b"'),
        ("a.b", [], [["b.a"], ["a.bc"], ["x", "a.b"]], None),
    ],
)
def test_attributes_with_dots(
    package: str, at: list[str], dotted: list[list[str]], attribute: str | None
) -> None:
    """A name that an attribute with a dot was meant by is not said to be unknown, and the
    attribute is never suggested."""
    names = [path[-1] for path in dotted]
    document = {"error": "missing", "package": package, "at": at, "names": names, "dotted": dotted}
    failed = refusal(json.dumps(document))
    if attribute is None:
        assert isinstance(failed, UnknownPackage)
        assert failed.nearest == []
    else:
        assert isinstance(failed, PackageUnnameable)
        assert failed.attribute == attribute


def test_missing_meta_packages() -> None:
    """A missing package that nobody named is explained by the meta-package it belongs to."""
    failed = refusal('{"error":"missing","package":"moreutils","at":[],"names":[],"dotted":[]}')
    assert isinstance(failed, UnknownPackage)
    assert failed.meta == "shell"


def test_other_refusals() -> None:
    """Each refusal is an error of its own: no package, ambiguous, another system, no set."""
    kind = refusal('{"error":"kind","package":"hs","kind":"a set","inside":["ShellCheck","_x"]}')
    assert isinstance(kind, NotAPackage)
    assert list(kind.inside) == ["hs.shellcheck"]
    ambiguous = refusal('{"error":"ambiguous","package":"a","matches":[["A"],["a","b"]]}')
    assert isinstance(ambiguous, AmbiguousPackage)
    assert list(ambiguous.matches) == ["A", "a.b"]
    assert isinstance(refusal('{"error":"system"}'), SystemUnsupported)
    assert isinstance(refusal('{"error":"set","kind":"a list"}'), EvaluationFailed)


def test_evaluation_errors() -> None:
    """The set's own message is told, with the package's name if it has none, without a trace."""
    text = (
        "error: it is unfree\n\n       at /set.nix:5:1:\n\n            5|  x = throw …\n"
        f'       … {MARK}{{"stage":"evaluate","package":"pkgs.x"}}{MARK}\n'
    )
    failed = error(Said(0, text))
    assert isinstance(failed, EvaluationFailed)
    assert failed.message == "pkgs.x: it is unfree"


def test_evaluation_errors_of_newer_versions() -> None:
    """Where the trace stands before the message, the message is told all the same."""
    text = (
        f'error:\n       … {MARK}{{"stage":"evaluate","package":"x"}}{MARK}\n\n'
        "       … while calling the 'throw' builtin\n         at /set.nix:5:1:\n"
        "            5|  x = throw …\n             |      ^\n\n"
        "       error: it is unfree,\n       refusing to evaluate"
    )
    failed = error(Said(0, text))
    assert isinstance(failed, EvaluationFailed)
    assert failed.message == "x: it is unfree,\nrefusing to evaluate"


def test_traces_of_the_set_are_no_errors() -> None:
    """The traces of a set are not taken for errors."""
    traces = [Said(0, f"trace: old alias {n}") for n in range(100)]
    failed = error(*traces, Said(0, f"error: it is unfree\n\n       … {SET}"))
    assert isinstance(failed, EvaluationFailed)
    assert failed.message == "it is unfree"


def test_faults_of_the_source() -> None:
    """A source that can't be fetched is not the set's fault, and its credentials are not told."""
    failed = error(Said(0, f'error: no route\n… {MARK}{{"stage":"fetch"}}{MARK}\n… {SET}'))
    assert isinstance(failed, SourceUnavailable)
    assert "no route" in str(failed)
    assert "secret" not in str(failed)


FULL = [
    "error: writing to file: No space left on device",
    "error: setting journal mode: database or disk is full (in '/store/nix/var/nix/db/db.sqlite')",
    f"error: builder for '{DRV}' failed with exit code 1;\n"
    "note: build failure may have been caused by lack of free disk space",
]


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("text", FULL)
def test_full_disks(found: bool, text: str) -> None:
    """A full store is a full store, whenever and however it shows, and where it lies is not
    told."""
    failed = error(*([FOUND] if found else []), Said(0, f"{text} {SET}"))
    assert isinstance(failed, StorageFull)
    assert "is full" in str(failed)
    assert "db.sqlite" not in str(failed)


def test_builders_that_talk_of_disks() -> None:
    """The output of a builder is not Nix's own: a package whose tests fill a disk is broken."""
    said = Said(0, f"error: builder for '{DRV}' failed with exit code 1")
    failed = error(FOUND, LogLine("x-1.0", "No space left on device"), said, code=100)
    assert isinstance(failed, BuildFailed)
    assert "No space left on device" in str(failed)


def test_faults_of_nix() -> None:
    """A failure that neither the source nor the set has caused is Nix's own."""
    assert isinstance(error(Said(0, "error: cannot open store")), NixUnavailable)
    assert isinstance(error(FOUND, Said(0, "error: lost the daemon")), NixUnavailable)
    assert isinstance(error(code=None), NixUnavailable)
    assert str(error())


def test_forged_marks() -> None:
    """A set that prints our marks with something else in them confuses nobody."""
    for document in FORGED:
        failed = error(Said(0, f"error: no {MARK}{document}{MARK} {SET}"))
        assert isinstance(failed, EvaluationFailed), document


def test_words_of_builders() -> None:
    """A message that a builder passes off as Nix's is not taken for one of the expression."""
    forged = '@nixery@{"error":"set","kind":"forged"}@nixery@'
    other = new_mark()
    made = account(FOUND, Said(0, forged), Said(0, forged.replace("@nixery@", other)))
    made.note(Said(0, FOUND.text.replace(MARK, other).replace("X", "Y")))
    assert made.refused is None
    assert [root.attribute for root in made.roots()] == ["pkgs.X"]


LONG = [
    *("a", "'", "://", "error:", "\n  ", "\x1b]", f"{MARK}{{", f"'{DRV[:-4]}", f"'{DRV}!"),
    *(".drv!", f"{DRV}/nix/store/", f"{MARK}[{MARK}"),
]


@pytest.mark.parametrize("word", LONG, ids=lambda word: word.replace(MARK, "MARK"))
def test_long_words(word: str) -> None:
    """However long and odd what Nix says is, it is read within moments, and little of it kept.

    What takes time that grows with the square of it would take hours.
    """
    text = "error: '" + word * (300_000 // len(word))
    line = b"@nix " + json.dumps({"action": "msg", "level": 0, "msg": text}).encode()
    made = account(FOUND, *EventParser().feed(line), LogLine("x-1.0", text))
    assert isinstance(failure(made, 1, IMAGE, PINNED, 600), NixeryError)
    assert sum(map(len, made.errors)) < 100_000


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=6,
)


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1), max_size=3), st.booleans()
)
def test_any_document_between_marks(documents: list[object], found: bool) -> None:
    """Whatever stands between our marks, the end is one of our errors, with a sentence."""
    said = [Said(0, f"error: {MARK}{json.dumps(document)}{MARK}") for document in documents]
    failed = error(*([FOUND] if found else []), *said)
    assert isinstance(failed, NixeryError)
    assert str(failed)


def test_nothing_found() -> None:
    """Nix that ends well without saying what it found gives no image without packages."""
    with pytest.raises(NixUnavailable):
        Account(MARK).roots()


def test_packages_without_a_path() -> None:
    """A package whose store path is not known before it is built is refused."""
    text = FOUND.text.replace(OUT, "/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9")
    with pytest.raises(EvaluationFailed, match=r"pkgs\.X has no store path"):
        account(Said(0, text)).roots()


@given(st.text())
def test_any_error_text(text: str) -> None:
    """Whatever Nix says, the error has a sentence without anything that a terminal obeys."""
    for found in ([], [FOUND]):
        shown = str(error(*found, Said(0, text)))
        assert shown
        assert all(c.isprintable() or c in "\n\t" for c in shown)


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
    assert list(made.tails["x"]) == ["abc"]


def test_endless_recursion() -> None:
    """Infinite recursion is the set's fault, though Nix reports it in a single line."""
    events = EventParser().feed(b"error: stack overflow (possible infinite recursion)")
    failed = error(Said(0, "warning: something else"), *events)
    assert isinstance(failed, EvaluationFailed)
    assert "infinite recursion" in str(failed)


def test_time_outs_without_a_name() -> None:
    """Nix 2.34 does not say which builder ran out of time: it is the first that failed."""
    events: list[Event | Failing] = [
        *(FOUND, LogLine("slow-1.0", "going"), BuildStopped("fine-1.0")),
        *(Failing(), BuildStopped("slow-1.0"), BuildStopped("beside-1.0")),
        Said(0, "error: timed out after 2 seconds"),
        BuildStopped("other-1.0"),
        Said(0, f"error: build of '{DRV}', '{DRV}' failed"),
    ]
    failed = error(*events, code=101)
    assert isinstance(failed, BuildTimedOut)
    assert (failed.derivation, list(failed.log)) == ("slow-1.0", ["going"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("file '{}/fifo' has an unsupported type", "/fifo has an unsupported type"),
        (
            "suspicious ownership or permission on '{}' for output 'out'; "
            "rejecting this build output",
            "it has a suspicious owner or permissions",
        ),
    ],
)
@pytest.mark.parametrize("root", ["", "/store/nix/store/" + "c" * 32 + "-x-1.0.drv.chroot"])
def test_outputs_that_nix_does_not_take(said: str, words: str, root: str) -> None:
    """An output that Nix refuses is the package's fault; where it lay is not said."""
    path = f"{root}/nix/store/{'a' * 32}-x-1.0"
    failed = error(FOUND, Said(0, "error: " + said.format(path)))
    assert isinstance(failed, BuildFailed)
    assert failed.derivation == "x-1.0"
    assert words in str(failed)
    assert "/nix/store" not in str(failed)


def sample(name: str, code: int | None) -> NixeryError:
    """The error of a recorded run of Nix."""
    parser = EventParser()
    lines = (SAMPLES / f"{name}.ndjson").read_bytes().splitlines()
    return error(FOUND, *(event for line in lines for event in parser.feed(line)), code=code)


VERSIONS = ("2.8", "2.26", "2.34")
GOT = "got: sha256-micfKpFrC27mzsskJvCzIG7wdFeL5V2byU9vP+Orhqo="
WHOLE = {
    "wrong-hash": (f"hash mismatch: specified: sha256-{'A' * 43}=, {GOT}",) * 3,
    "other-system": (
        *("a 'aarch64-linux' with features {} is required to build other-system-1.0, but I am",)
        * 2,
        "platform mismatch: Required system: 'aarch64-linux', Current system: 'x86_64-linux'",
    ),
    "other-feature": (
        *("a 'x86_64-linux' with features {frobnication, kvm} is required to build ",) * 2,
        "missing system features: Required features: {frobnication, kvm}, Available features: {",
    ),
    "no-output": (
        "its builder failed to produce output path for output 'out'",
        "its builder failed to produce output path for output 'out'",
        "its builder failed to produce output path for output 'out'",
    ),
    "forbidden-reference": ("its output may not refer to dep-1.0",) * 3,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", WHOLE)
def test_causes_are_told_whole(name: str, version: str) -> None:
    """A cause of several lines is told in one, by each version, and names no path."""
    failed = sample(f"{name}-{version}", code=1)
    assert isinstance(failed, BuildFailed)
    assert failed.derivation == f"{name}-1.0"
    assert failed.reason.startswith(WHOLE[name][VERSIONS.index(version)])
    assert "\n" not in failed.reason
    assert "/" not in failed.reason.replace("micfKpFrC27mzsskJvCzIG7wdFeL5V2byU9vP", "")


@pytest.mark.parametrize(("version", "code"), [("2.8", None), ("2.26", None), ("2.34", 101)])
def test_time_outs_that_end_nix(version: str, code: int | None) -> None:
    """A builder that runs out of time is named though Nix itself may die of it."""
    failed = sample(f"timed-out-{version}", code)
    assert isinstance(failed, BuildTimedOut)
    assert (failed.derivation, failed.seconds, failed.silent) == ("hangs-1.0", 3, False)


def test_time_outs_of_evaluation() -> None:
    """A builder that evaluation waits for may run out of time as well."""
    text = f"error: building of '{DRV}^out' from .drv file timed out after 5 seconds\n… {SET}"
    failed = error(Said(0, text), code=None)
    assert isinstance(failed, BuildTimedOut)
    assert failed.derivation == "x-1.0"
    assert isinstance(
        error(Said(0, f"error: timed out after 5 seconds\n… {SET}")), EvaluationFailed
    )


@pytest.mark.parametrize(("version", "silent"), [("2.8", True), ("2.26", True), ("2.34", False)])
def test_silent_builders(version: str, silent: bool) -> None:
    """Nix's own limits are told, as far as a version says which one it was."""
    failed = sample(f"silent-{version}", 101)
    assert isinstance(failed, BuildTimedOut)
    assert (failed.derivation, failed.seconds, failed.silent) == ("hangs-1.0", 2, silent)


def test_reasons_are_bounded() -> None:
    """However much Nix has to say, a reason stays short."""
    text = f"error: builder for '{DRV}' failed:\n" + "what is wrong\n" * 10_000
    failed = error(FOUND, Said(0, text))
    assert isinstance(failed, BuildFailed)
    assert len(failed.reason) <= 1000


def test_traces_are_told_only_where_that_is_set() -> None:
    """A failed evaluation comes without its trace, unless the operator wants it to be seen."""
    said = Said(0, f"error: it is unfree\n\n       at /set.nix:5:1:\n\n       … {SET}")
    made = account(said)
    for traces in (False, True):
        failed = failure(made, 1, IMAGE, PINNED, 600, traces)
        assert isinstance(failed, EvaluationFailed)
        assert failed.message == "it is unfree"
        assert ("/set.nix:5:1" in failed.trace) == traces
