"""Why a run of Nix failed, as an error that says what a person can do about it: pure.

Nix's own text is understood only where it names a derivation or a known fault of the machine.
"""

import re
from itertools import takewhile
from typing import Any

from nixery.model.build_errors import BuildFailed, BuildTimedOut
from nixery.model.closure import store_name
from nixery.model.errors import NixeryError
from nixery.model.image import Image, exact_image_name, image_name
from nixery.model.package_errors import (
    AmbiguousPackage,
    EvaluationFailed,
    InterpretersDiffer,
    NotAPackage,
    PackageUnnameable,
    SystemUnsupported,
    UnknownPackage,
)
from nixery.model.paths import without_location
from nixery.model.service_errors import NixUnavailable, SourceUnavailable
from nixery.model.source import PinnedSource
from nixery.model.suggestions import nearest_names
from nixery.model.text import cut
from nixery.nix.account import DERIVATION, Account, fits
from nixery.nix.disk_faults import full_store
from nixery.nix.messages import CONFINED, first_words

_INSIDE = 5
_FOR_ANOTHERS_SAKE = (
    *("dependencies of derivation", "dependency failed", "dependencies failed"),
    "error: build of ",
)
# An output that Nix rejects; its path may be in the builder's own root. 2.34 puts some paths in
# double quotes.
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
# Additions of newer versions to a reason: outputs, and the log, whose end we have already.
_BESIDES = ("Output paths:", "Last ", "last ", "For full logs", "note: ")


def failure(
    account: Account,
    code: int | None,
    image: Image,
    pinned: PinnedSource,
    time_limit: int,
    traces: bool = False,
) -> NixeryError:
    """Why Nix failed.

    Looking for the nearest names may take a second: not for the reactor's thread.

    :param code: the exit code of ``nix-build``, or nothing if a signal ended it.
    :param time_limit: the seconds that a builder may run.
    :param traces: whether the error of a failed evaluation includes its trace.
    """
    text = "\n".join(account.errors)
    if account.refused is not None:
        return _refusal(account.refused, image)
    if full := full_store(text):
        return full
    # 2.8 and 2.26 crash when a builder runs out of time while another one runs, so the exit code
    # comes after this. Evaluation may need builders too.
    if late := _timed_out(account, code, time_limit):
        return late
    if code is None:
        return NixUnavailable("nix-build was killed")
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
        return NixUnavailable(message or "Nix gave no reason")
    package = next((d["package"] for d in stages if fits(d, {"package": str})), None)
    where = f"{package}: " if package and package not in message else ""
    return EvaluationFailed(where + message, text if traces else "")


def _timed_out(account: Account, code: int | None, time_limit: int) -> BuildTimedOut | None:
    """Which builder ran out of time, if one did."""
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
        return NixUnavailable(first_words(text) or f"nix-build ended with exit code {code}")
    derivation = store_name(path)
    return BuildFailed(derivation, _reason(said), list(account.tails.get(derivation, ())))


def _rejected(text: str) -> BuildFailed | None:
    """Why Nix rejected an output, if it did."""
    for match in _REJECTED.finditer(text):
        output = _OUTPUT.fullmatch(match["path"])
        if output is None:
            continue
        if match["paths"]:
            names = ", ".join(store_name(path) for path in match["paths"].split()[:_INSIDE])
            return BuildFailed(output["name"], f"its output may not refer to {names}", [])
        fault = match["type"] or "a suspicious owner or permissions"
        reason = f"Nix rejects its output: {output['file'] or 'it'} has {fault}"
        return BuildFailed(output["name"], reason, [])
    return None


def _failed_derivation(errors: list[str]) -> tuple[str | None, str]:
    """The derivation that failed by itself, rather than because of another, and Nix's message."""
    named = [(match[1], text) for text in errors if (match := DERIVATION.search(text))]
    own = [each for each in named if not any(words in each[1] for words in _FOR_ANOTHERS_SAKE)]
    return next(iter(own or named), (None, ""))


def _reason(text: str) -> str:
    """Nix's reason for a failure in one line, without the paths and the log that some versions
    quote."""
    words = DERIVATION.sub(lambda match: store_name(match[1]), first_words(text))
    lines = [without_location(line.strip()) for line in words.splitlines()[:_REASON_LINES]]
    if len(lines) > 1 and lines[1].startswith("Reason: "):  # since 2.29
        lines = [lines[1].removeprefix("Reason: ").removesuffix("."), *lines[2:]]
    first = re.sub(r"^builder (?:for \S+ )?failed", "its builder failed", lines[0])
    first = re.sub(r" in fixed-output derivation \S+:$", ":", first).removesuffix(";")
    own = takewhile(lambda line: not line.startswith((*_BESIDES, ">")), lines[1:])
    facts = ", ".join(" ".join(line.split()) for line in own if line)
    joint = "" if not facts else " " if first.endswith(":") else ": "
    return cut((first + joint + facts).strip(), _REASON_LENGTH)
