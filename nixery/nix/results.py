"""What Nix and ``nix/realise.nix`` said, as values and errors: pure.

The expression says JSON between two marks; everything else is Nix's own text, of which only
what names a derivation or a known fault of the machine is understood.
"""

import re
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import attrs

from nixery.model.about import About
from nixery.model.closure import Root, is_store_path, store_name
from nixery.model.errors import (
    AmbiguousPackage,
    BuildFailed,
    BuildTimedOut,
    EvaluationFailed,
    InterpretersDiffer,
    MemoryExceeded,
    NixeryError,
    NixUnavailable,
    NotAPackage,
    PackageUnnameable,
    SourceUnavailable,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.events import BuildStarted, BuildStopped, Event, Found, LogLine, Said
from nixery.model.image import Image, exact_image_name, image_name
from nixery.model.paths import without_location
from nixery.model.source import PinnedSource
from nixery.model.suggestions import nearest_names
from nixery.model.text import cut, plain
from nixery.nix.delimiters import fits, marked, without_marked
from nixery.nix.disk_faults import full_store
from nixery.nix.internal_json import Failing
from nixery.nix.refusals import CONFINED
from nixery.nix.words import ends, first_words, printable

TAIL = 20
"""Lines of a failed derivation's log that its error quotes."""
_LINE = 400
_INSIDE = 5
_ERRORS_KEPT = 50
_STAGES_KEPT = 100
# With the output that was wanted of it: X.drv!out, and since 2.15 X.drv^out.
_DERIVATION = re.compile(r"'(/nix/store/[0-9a-z]{32}-[^'!^]+\.drv)(?:[!^][^']*)?'")
_FOR_ANOTHERS_SAKE = (
    *("dependencies of derivation", "dependency failed", "dependencies failed"),
    "error: build of ",
)
# An output that Nix looks at, in a builder's own root at times, and does not take. 2.34 has
# double quotes around some paths.
_REJECTED = re.compile(
    r"['\"](?P<path>[^'\"]*)['\"](?: for output '[^']+')?"
    r"(?: has (?P<type>an unsupported type)|; rejecting this build output"
    r"| is not allowed to refer to the following paths:(?P<paths>(?:\s+/\S+)+))"
)
_OUTPUT = re.compile(r".*/nix/store/[0-9a-z]{32}-(?P<name>[^/]+)(?P<file>/.*)?", re.DOTALL)
_ENDLESS = "stack overflow (possible infinite recursion)"
_TIMED_OUT = 101  # an exit code of nix-build
_TIMED_OUT_AFTER = re.compile(r"timed out after ([0-9]{1,9}) seconds( of silence)?")
_REASON_LINES, _REASON_LENGTH = 20, 1000
# What newer versions add to a reason: outputs, and the log, of which we have the end.
_BESIDES = ("Output paths:", "Last ", "last ", "For full logs", "note: ")
# What is of level 0 and no error: advice, and what a set traces.
_NO_ERROR = ("(use '--show-trace'", "trace: ")
# What the expression says. Other text between such marks is a package set's own.
_FOUND = {
    "found": [
        {
            **{"package": str, "attribute": [str], "name": str},
            **{"path": str, "others": [str], "program": str},
            "about": {
                **{"version": str, "description": str, "homepage": str},
                "licenses": [{"spdx": str, "name": str}],
            },
        }
    ],
    "library": bool,
}
_REFUSED: dict[str, Any] = {
    "missing": {"package": str, "at": [str], "names": [str], "dotted": [[str]]},
    "ambiguous": {"package": str, "matches": [[str]]},
    "kind": {"package": str, "kind": str, "inside": [str]},
    "system": {},
    "default": {},
    "flake": {},
    "configuration": {"lacking": [str]},
    "interpreters": {"kind": str, "packages": [str]},
    "set": {"kind": str},
}
_STAGE = {"stage": str}


@attrs.define
class Account:
    """What is to be remembered of a run of Nix: packages, errors, ends of build logs.

    It is bounded, whatever a package prints.

    :param mark: what ``realise.nix`` says stands between two of these.
    :param has_library: whether the set has something named ``library``.
    :param stages: what evaluation was at when it failed.
    """

    mark: str
    found: list[dict[str, Any]] | None = None
    has_library: bool = True
    refused: dict[str, Any] | None = None
    errors: list[str] = attrs.Factory(list)
    stages: list[dict[str, Any]] = attrs.Factory(list)
    tails: dict[str, deque[str]] = attrs.Factory(dict)
    timed_out: str | None = None
    _building: set[str] = attrs.Factory(set)
    _stopped: str | None = None
    _failing: bool = False

    def note(self, event: Event | Failing) -> list[Event]:
        """Take an event.

        :return: the events that others should see instead of it.
        """
        match event:
            case LogLine(derivation=derivation, line=line):
                tail = self.tails.setdefault(derivation, deque(maxlen=TAIL))
                tail.append(printable(plain(line[: 10 * _LINE]))[:_LINE])
            case BuildStarted(derivation=derivation):
                self._building.add(derivation)
            case Failing():
                self._failing, self._stopped = True, None
                return []
            case BuildStopped(derivation=derivation):
                self._building.discard(derivation)
                if self._stopped is None or not self._failing:
                    self._stopped = derivation
            case Said(text=text):
                return self._said(event, text)
        return [event]

    def _said(self, event: Said, text: str) -> list[Event]:
        for document in marked(text, self.mark):
            if fits(document, _FOUND):
                self.found, self.has_library = document["found"], document["library"]
                return [
                    Found(f["package"], ".".join(f["attribute"]), f["name"]) for f in self.found
                ]
            if fits(document, {"error": str}) and _refuses(document):
                self.refused = document
                return []
            if fits(document, _STAGE) and len(self.stages) < _STAGES_KEPT:
                self.stages.append(document)
        if "timed out after" in text and not _DERIVATION.search(text):
            # Nix 2.34 does not say which one it was: the first that failed.
            self.timed_out = self._stopped
        # What Nix says with its last breath, such as of its stack's end, has no level.
        is_error = event.level == 0 and not text.startswith(_NO_ERROR)
        if len(self.errors) < _ERRORS_KEPT and (is_error or text.startswith("error: ")):
            self.errors.append(ends(without_marked(text, self.mark)))
        return [event]

    @property
    def lacks_about(self) -> bool:
        """Whether evaluation failed at what packages say of themselves for people to read."""
        return self.found is None and {"stage": "about"} in self.stages

    def outgrown(self, limit: int) -> MemoryExceeded:
        """Why Nix was killed for the memory that it took.

        :param limit: the bytes that it may have.
        """
        building = ", ".join(sorted(self._building)) or "packages"
        return MemoryExceeded(limit, None if self.found is None else building)

    def roots(self) -> tuple[Root, ...]:
        """The packages that evaluation found, in the order of their names.

        :raises EvaluationFailed: if one has no store path before it is built.
        :raises NixUnavailable: if nothing was found.
        """
        if not self.found:
            raise NixUnavailable("it did not say what it found")
        roots = []
        for document in self.found:
            attribute, path = ".".join(document["attribute"]), document["path"]
            if not all(map(is_store_path, [path, *document["others"]])):
                raise EvaluationFailed(
                    f"{attribute} has no store path before it is built, as content-addressed "
                    "packages have none: that is not supported"
                )
            others = [each for each in document["others"] if each != path]
            roots.append(
                Root(
                    package=document["package"],
                    attribute=attribute,
                    path=path,
                    others=tuple(others),
                    program=document["program"],
                    said=document.get("image"),
                    library=str(document.get("library", "")),
                    about=About.parse(document["about"]),
                )
            )
        return tuple(sorted(roots, key=lambda root: root.package))


def failure(
    account: Account,
    code: int | None,
    image: Image,
    pinned: PinnedSource,
    time_limit: int,
    traces: bool = False,
) -> NixeryError:
    """Why Nix failed.

    It may take a second where it looks for names: not for the reactor's thread.

    :param code: the exit code of ``nix-build``, or nothing if a signal ended it.
    :param time_limit: the seconds that a builder may run.
    :param traces: whether a failed evaluation is told with its trace.
    """
    text = "\n".join(account.errors)
    if account.refused is not None:
        return _refusal(account.refused, image)
    if full := full_store(text):
        return full
    # 2.8 and 2.26 fail an assertion of their own when a builder runs out of time while another
    # one runs: they have said so before. Evaluation may need builders too.
    if (late := _timed_out(account, code, time_limit)) is not None:
        return late
    if code is None:
        return NixUnavailable("it was killed")
    if account.found is None:
        return _not_evaluated(text, account.stages, pinned, traces)
    return _not_built(account, code, text)


def _refusal(document: dict[str, Any], image: Image) -> NixeryError:
    package = document.get("package", "")
    match document["error"]:
        case "missing":
            return _missing(document, image)
        case "ambiguous":
            matches = [".".join(path) for path in document["matches"]]
            names = [".".join(map(exact_image_name, path)) for path in document["matches"]]
            return AmbiguousPackage(package, matches, names)
        case "interpreters":
            return InterpretersDiffer(document["kind"], document["packages"])
        case "kind":
            names = [image_name(n) for n in document["inside"] if n != "recurseForDerivations"]
            inside = [f"{package}.{name}" for name in names if name][:_INSIDE]
            return NotAPackage(package, document["kind"], inside)
        case "system":
            return SystemUnsupported(image.system)
        case "default":
            return EvaluationFailed("there is no default.nix in it")
        case "flake":
            return EvaluationFailed("it is a flake without legacyPackages or packages")
        case "configuration":
            lacking = " and no ".join(document["lacking"])
            return EvaluationFailed(f"it takes no {lacking}, which the operator has set for it")
        case _:
            return EvaluationFailed(f"it is {document['kind']} and not an attribute set")


def _missing(document: dict[str, Any], image: Image) -> NixeryError:
    package: str = document["package"]
    steps, depth = package.split("."), len(document["at"])
    for *above, attribute in document["dotted"]:
        following = steps[len(above) :][: attribute.count(".") + 1]
        if ".".join(following) == attribute.lower():
            return PackageUnnameable(package, ".".join([*above, f'"{attribute}"']))
    known = [name for name in map(image_name, document["names"]) if name]
    nearest = nearest_names("".join(steps[depth : depth + 1]), known)
    names = [".".join([*steps[:depth], name]) for name in nearest]
    return UnknownPackage(package, names, image.meta_of(package))


def _not_evaluated(
    text: str, stages: list[dict[str, Any]], pinned: PinnedSource, traces: bool
) -> NixeryError:
    message = first_words(text)
    if CONFINED not in text and any(document["stage"] == "fetch" for document in stages):
        return SourceUnavailable(str(pinned.source), message)
    if _ENDLESS in text:
        return EvaluationFailed(_ENDLESS)
    if not stages:
        return NixUnavailable(message or "it gave no reason")
    package = next((d["package"] for d in stages if fits(d, {"package": str})), None)
    where = f"{package}: " if package and package not in message else ""
    return EvaluationFailed(where + message, text if traces else "")


def _timed_out(account: Account, code: int | None, time_limit: int) -> BuildTimedOut | None:
    """Which builder ran out of time, if that is what Nix says."""
    path, said = _failed_derivation(account.errors)
    derivation = account.timed_out
    if derivation is None:
        if path is None or not (code == _TIMED_OUT or _TIMED_OUT_AFTER.search(said)):
            return None
        derivation = store_name(path)
    after = _TIMED_OUT_AFTER.search("\n".join(account.errors))
    seconds = int(after[1]) if after else time_limit
    silent = after is not None and after[2] is not None
    return BuildTimedOut(derivation, seconds, list(account.tails.get(derivation, ())), silent)


def _not_built(account: Account, code: int, text: str) -> NixeryError:
    path, said = _failed_derivation(account.errors)
    if path is None and (rejected := _rejected(text)) is not None:
        return rejected
    if path is None:
        return NixUnavailable(first_words(text) or f"it ended with exit code {code}")
    derivation = store_name(path)
    return BuildFailed(derivation, _reason(said), list(account.tails.get(derivation, ())))


def _rejected(text: str) -> BuildFailed | None:
    """Why Nix did not take what was built, if that is what it says."""
    for match in _REJECTED.finditer(text):
        output = _OUTPUT.fullmatch(match["path"])
        if output is None:
            continue
        if match["paths"]:
            names = ", ".join(store_name(path) for path in match["paths"].split()[:_INSIDE])
            return BuildFailed(output["name"], f"its output may not refer to {names}", [])
        fault = match["type"] or "a suspicious owner or permissions"
        reason = f"Nix does not take its output: {output['file'] or 'it'} has {fault}"
        return BuildFailed(output["name"], reason, [])
    return None


def _failed_derivation(errors: Sequence[str]) -> tuple[str | None, str]:
    """The derivation that failed by itself, rather than for another one's sake."""
    for text in errors:
        match = _DERIVATION.search(text)
        if match and not any(words in text for words in _FOR_ANOTHERS_SAKE):
            return match[1], text
    for text in errors:
        if match := _DERIVATION.search(text):
            return match[1], text
    return None, ""


def _reason(text: str) -> str:
    """Nix's words for a failure in one line, without the paths and the log that some versions
    quote."""
    words = _DERIVATION.sub(lambda match: store_name(match[1]), first_words(text))
    lines = [without_location(line.strip()) for line in words.splitlines()[:_REASON_LINES]]
    if len(lines) > 1 and lines[1].startswith("Reason: "):  # since 2.29
        lines = [lines[1].removeprefix("Reason: ").removesuffix("."), *lines[2:]]
    first = re.sub(r"^builder (?:for \S+ )?failed", "its builder failed", lines[0])
    first = re.sub(r" in fixed-output derivation \S+:$", ":", first).removesuffix(";")
    others = (" ".join(line.split()) for line in takewhile(_belongs, lines[1:]) if line)
    facts = ", ".join(others)
    joint = "" if not facts else " " if first.endswith(":") else ": "
    return cut((first + joint + facts).strip(), _REASON_LENGTH)


def _belongs(line: str) -> bool:
    """Whether a line of an error still says why."""
    return not line.startswith((*_BESIDES, ">"))


def _refuses(document: dict[str, Any]) -> bool:
    shape = _REFUSED.get(document["error"])
    return shape is not None and fits(document, shape)
