"""Evaluation of package sets, which are not the operator's own, confined as far as configured."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.model.service_errors import NixUnavailable, StorageFull
from nixery.model.source import canonical_json
from nixery.nix.commands import FLAKES, Commands
from nixery.nix.isolation import Confinement, both_spellings
from nixery.nix.process import Processes, Surroundings, supervised

OPEN = "open: a package set may read what the daemon's user may, and start programs"
CONFINED = "confined to the package set; the daemon's state and home are hidden from it"
WITHOUT_VIEW = (
    "confined to the package set by Nix alone; this machine allows no namespaces, so the daemon's "
    "state and home are not hidden"
)
_FLAKE_FEATURES = {"flakes", "fetch-tree"}
_PATH = re.compile(r"/[^\s?=@'\"]+")
_PARTS = {
    "realise": {"findSet": "set", "combine": "environments"},
    "index": {"findSet": "set"},
    "offered": {"findSet": "set"},
    "trial": {},
}
"""Expression → its arguments that are other expressions."""
_GC_ROOTS = "/nix/var/nix/gcroots"


def find_expressions(package: str) -> str:
    """The folder of the Nix expressions: in an installed package, or beside it in a checkout.

    :param package: the folder of the package ``nixery``.
    """
    inside = os.path.join(package, "expressions")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "nix")


@attrs.frozen
class Prepared:
    """The end of a command line that has Nix evaluate something.

    :param arguments: of ``nix-build`` or ``nix-instantiate``, the expression being the last.
    :param surroundings: as :meth:`nixery.nix.process.Processes.run` takes them.
    """

    arguments: Sequence[str]
    surroundings: Surroundings | None


class Evaluator:
    """Prepares Nix's programs for evaluating the expressions of ``nix/``.

    :ivar has_view: whether files can be hidden on this machine; assumed until it is known better.
    """

    _log = Logger()

    def __init__(
        self,
        processes: Processes,
        commands: Commands,
        expressions: str,
        confinement: Confinement | None,
    ) -> None:
        """
        :param expressions: the folder of ``set.nix`` and of those that use it.
        :param confinement: none if evaluation may do what the daemon's user may.
        """
        self._processes = processes
        self._commands = commands
        self._expressions = expressions
        self._confinement = confinement
        self._settings: Mapping[str, str] | None = None
        self._installed = False
        self.has_view = True

    async def start(self) -> None:
        """Find out how far evaluation can be confined on this machine, and log it."""
        confinement = self._confinement
        if confinement is None:
            self._log.warn("evaluation is {mode}", mode=OPEN)
            return
        with suppress(StorageFull, NixUnavailable):  # known images can be served without it
            self._install(confinement)
        view = self._surroundings(confinement, {}, [])
        ended = await self._processes.run(["true"], surroundings=view)
        self.has_view = ended.code == 0
        if self.has_view:
            self._log.info("evaluation is {mode}", mode=CONFINED)
        else:
            reason = ended.errors
            self._log.warn("evaluation is {mode} ({reason})", mode=WITHOUT_VIEW, reason=reason)

    async def prepare(self, name: str, request: Mapping[str, Any]) -> Prepared:
        """Prepare the evaluation of an expression.

        :param name: of its file, without ``.nix``.
        :param request: its argument, which is data whatever it holds.
        :raises NixUnavailable: if Nix does not tell its settings, or the state folder can't be
            written to.
        :raises StorageFull: if there is no room in it.
        """
        is_flake = request["source"]["type"] == "flake"
        readable = _paths_of(request)
        if is_flake:
            options = list(FLAKES)
        else:
            options = _option("pure-eval", "false")
            options += [word for path in readable for word in ("-I", f"nixery={path}")]
        view = None
        if self._confinement is not None:
            self._install(self._confinement)
            if self._settings is None:
                self._settings = await self._commands.configuration()
            uris = [*self._confinement.uris, *request["source"].get("origins", ())]
            options += _restrictions(is_flake, self._settings, uris)
            view = self._surroundings(self._confinement, self._settings, readable)
            if self.has_view and self._collects_garbage():
                # It would take roots that it does not see for gone.
                options += _option("min-free", "0")
        text = _expression(self._expressions, name)
        given = ("--argstr", "request", canonical_json(request))
        return Prepared([*options, *given, "--expr", "--", text], view)

    def _install(self, confinement: Confinement) -> None:
        confinement.make_folders()
        if not self._installed:
            confinement.install()
            self._installed = True

    def _surroundings(
        self, confinement: Confinement, settings: Mapping[str, str], read: Sequence[str]
    ) -> Surroundings:
        """The surroundings of an evaluation.

        :param settings: Nix's: files that they name are needed by Nix itself.
        :param read: paths that the set may read.
        """
        if not self.has_view:
            return Surroundings(confinement.environ)
        named = {path for value in settings.values() for path in _PATH.findall(value)}
        return Surroundings(confinement.environ, confinement.mounts(sorted(named), read))

    def _collects_garbage(self) -> bool:
        """Whether Nix does that itself, rather than a daemon for it."""
        return self._commands.store is not None or os.access(_GC_ROOTS, os.W_OK)


def mode_of(confinement: Confinement | None) -> str:
    """How far evaluation would be confined, as text. Blocks for a moment."""
    if confinement is None:
        return OPEN
    command = supervised(["true"], confinement.mounts())
    ended = subprocess.run(command, env=confinement.environ, capture_output=True, check=False)
    return CONFINED if ended.returncode == 0 else WITHOUT_VIEW


def _restrictions(is_flake: bool, settings: Mapping[str, str], uris: Sequence[str]) -> list[str]:
    """Options that confine an evaluation.

    :param settings: Nix's.
    :param uris: prefixes of those that may be fetched.
    """
    options = _option("allow-unsafe-native-code-during-evaluation", "false")
    options += _option("restrict-eval", "true")
    if uris:
        options += _option("extra-allowed-uris", " ".join(uris))
    if is_flake:
        return options + _option("pure-eval", "true")
    # With flakes enabled, Nix before 2.20 fetches any folder of the machine, restricted or not.
    features = settings.get("experimental-features", "").split()
    without = " ".join(each for each in features if each not in _FLAKE_FEATURES)
    return options + _option("experimental-features", without)


def _option(name: str, value: str) -> list[str]:
    return ["--option", name, value]


def _paths_of(request: Mapping[str, Any]) -> list[str]:
    """The paths that the operator has named: a restricted evaluation may read them."""
    source, overlays = request["source"], request.get("configuration", {}).get("overlays")
    return both_spellings([p for p in (source.get("path"), overlays) if p is not None])


@cache
def _expression(folder: str, name: str) -> str:
    """An expression as one text: Nix may be kept from reading the files."""

    def text_of(part: str) -> str:
        with open(os.path.join(folder, f"{part}.nix"), encoding="utf-8") as file:
            return f"({file.read()}\n)"

    parts = "".join(f" {given} = {text_of(part)};" for given, part in _PARTS[name].items())
    return f"{{ request }}: {text_of(name)} {{ inherit request;{parts} }}"
