"""The account of a run of Nix: what ``nix/realise.nix`` and Nix said in it, as values. Pure.

The expression says JSON between two marks, amid texts that others have a hand in: Nix takes what a
builder prints for its own words when that begins with ``@nix ``. So each run has a mark that
nobody who is built or evaluated in it can know.
"""

import json
import re
import secrets
from collections import deque
from typing import Any

import attrs

from nixery.model.about import About
from nixery.model.build_errors import MemoryExceeded
from nixery.model.closure import Root, is_store_path
from nixery.model.events import BuildStarted, BuildStopped, Event, Found, LogLine, Said
from nixery.model.package_errors import EvaluationFailed
from nixery.model.service_errors import NixUnavailable
from nixery.model.text import plain
from nixery.nix.internal_json import Failing
from nixery.nix.messages import ends, printable

TAIL = 20
"""Lines of a failed derivation's log that its error quotes."""
DERIVATION = re.compile(r"'(/nix/store/[0-9a-z]{32}-[^'!^]+\.drv)(?:[!^][^']*)?'")
"""Nix's mention of a derivation; with the wanted output X.drv!out, and since 2.15 X.drv^out."""
_LINE = 400
_ERRORS_KEPT = 50
_STAGES_KEPT = 100
# Text of level 0 that is no error: advice, and what a set traces.
_NO_ERROR = ("(use '--show-trace'", "trace: ")
# The documents of the expression. Other text between such marks is a package set's own.
_FOUND = {
    "found": [
        {
            **{"package": str, "attribute": [str], "name": str},
            **{"path": str, "others": [str], "program": str},
            "about": {
                **{"version": str, "description": str, "homepage": str, "cpe": str},
                **{"licenses": [{"spdx": str, "name": str}], "purls": [str]},
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


def new_mark() -> str:
    """A mark that nobody can guess."""
    return f"@nixery-{secrets.token_hex(16)}@"


@attrs.define
class Account:
    """The facts of a run of Nix that are remembered: packages, errors, the ends of build logs.

    It is bounded, whatever a package prints.

    :param mark: stands around the documents of ``realise.nix``.
    :param has_library: whether the set has something named ``library``.
    :param refused: why the expression refused the request.
    :param stages: the steps that evaluation was in when it failed.
    :param tails: derivation → the last lines of its log.
    :param timed_out: the derivation that ran out of time, where Nix does not name it.
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

        :return: the events to emit in its place.
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
                return self._note_said(event, text)
        return [event]

    def _note_said(self, event: Said, text: str) -> list[Event]:
        for document in self._documents(text):
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
        if "timed out after" in text and not DERIVATION.search(text):
            # Nix 2.34 does not name the derivation: it is the first that failed.
            self.timed_out = self._stopped
        # The last words of Nix when it crashes, at the end of its stack say, have no level.
        is_error = event.level == 0 and not text.startswith(_NO_ERROR)
        if len(self.errors) < _ERRORS_KEPT and (is_error or text.startswith("error: ")):
            self.errors.append(ends("".join(text.split(self.mark)[::2])))
        return [event]

    def _documents(self, text: str) -> list[dict[str, Any]]:
        documents = []
        for piece in text.split(self.mark)[1::2]:
            try:
                document = json.loads(piece)
            except (ValueError, RecursionError):  # a package set's own text that looks like ours
                continue
            if isinstance(document, dict):
                documents.append(document)
        return documents

    @property
    def lacks_about(self) -> bool:
        """Whether evaluation failed in the descriptions of packages (``meta``)."""
        return self.found is None and {"stage": "about"} in self.stages

    def outgrown(self, limit: int) -> MemoryExceeded:
        """The error for a Nix that was killed for the memory that it took.

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
            raise NixUnavailable("nix-build reported no packages")
        return tuple(sorted(map(_root, self.found), key=lambda root: root.package))


def _root(document: dict[str, Any]) -> Root:
    attribute, path = ".".join(document["attribute"]), document["path"]
    if not all(map(is_store_path, [path, *document["others"]])):
        raise EvaluationFailed(
            f"{attribute} has no store path before it is built: content-addressed packages are "
            "not supported"
        )
    return Root(
        package=document["package"],
        attribute=attribute,
        path=path,
        others=tuple(each for each in document["others"] if each != path),
        program=document["program"],
        said=document.get("image"),
        library=str(document.get("library", "")),
        name=document["name"],
        about=About.parse(document["about"]),
    )


def fits(value: Any, shape: Any) -> bool:
    """Whether JSON has a shape: a type, a list of a shape, or an object with at least some keys."""
    match shape:
        case dict():
            return isinstance(value, dict) and all(
                key in value and fits(value[key], inner) for key, inner in shape.items()
            )
        case [inner]:
            return isinstance(value, list) and all(fits(each, inner) for each in value)
        case _:
            return isinstance(value, shape)


def _refuses(document: dict[str, Any]) -> bool:
    shape = _REFUSED.get(document["error"])
    return shape is not None and fits(document, shape)
