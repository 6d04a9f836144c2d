"""Evaluation of package sets, which are not the operator's own, as confined as it is set."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.model.errors import NixUnavailable, StorageFull
from nixery.model.source import canonical_json
from nixery.nix.commands import FLAKES, Commands
from nixery.nix.disk_faults import state_faults
from nixery.nix.git_for_evaluation import install
from nixery.nix.lines import LastLines
from nixery.nix.process import Processes, Surroundings, kept
from nixery.nix.view import mounts

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


@attrs.frozen
class Confinement:
    """What evaluation is kept from.

    :param uris: beginnings of the URIs that may be fetched, as Nix's ``allowed-uris`` has them.
    :param hidden: files and folders that the process does not see.
    :param own: folders that it sees, since Nix writes to them; made when they are not there.
    :param shown: what else it sees of the hidden folders, since Nix needs it.
    :param programs: a folder for the programs that are found before those of ``PATH``.
    :param cache: where Nix caches what it fetches.
    :param fetching: what is seen when a flake is fetched with its inputs; its ``PATH`` begins with
        a folder for programs too.
    :param place: the package source's folder, if it is on this machine.
    :param environ: all that the process sees of the environment.
    """

    uris: tuple[str, ...]
    hidden: tuple[str, ...]
    own: tuple[str, ...]
    shown: tuple[str, ...]
    programs: str
    cache: str
    fetching: Surroundings
    place: str | None
    environ: Mapping[str, str]

    def install(self) -> None:
        """Make the programs that stand before others."""
        install(self.programs, [self.cache] if self.uris else [])
        sources = [self.cache] if self.place is None else [self.cache, self.place]
        install(self._fetchers, sources)

    @property
    def _fetchers(self) -> str:
        return self.fetching.environ["PATH"].partition(":")[0]

    def for_fetching(self) -> Surroundings:
        """What is seen when a flake is fetched with its inputs.

        :raises NixUnavailable: if the programs are not there that stand before others, and can't
            be made; ``StorageFull`` if that is for lack of room.
        """
        if not os.access(os.path.join(self._fetchers, "git"), os.X_OK):
            self.install()
        return self.fetching

    def make_folders(self) -> None:
        """Make the folders that Nix writes to: one that is not there can't be seen, and what
        would be written to it would be lost."""
        with state_faults():
            for folder in self.own:
                os.makedirs(folder, exist_ok=True)

    def mounts(self, needed: Sequence[str] = (), read: Sequence[str] = ()) -> list[str]:
        """What hides the files that are not to be seen.

        :param needed: paths that are to be seen besides, unless they are hidden themselves.
        :param read: paths that are to be seen, whatever is hidden.
        """
        named = _both([*self.own, *self.shown, *needed])
        return mounts(self.hidden, [*read, *(path for path in named if path not in self.hidden)])


@attrs.frozen
class Prepared:
    """A command line's end that has Nix evaluate something.

    :param arguments: of ``nix-build`` or ``nix-instantiate``, the expression being the last.
    :param surroundings: what the process sees; none if that is what all children see.
    """

    arguments: Sequence[str]
    surroundings: Surroundings | None


class Evaluator:
    """Prepares Nix's programs for evaluating the expressions of ``nix/``."""

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
        self.has_view = True  # until it is known better

    async def start(self) -> None:
        """Look how confined evaluation can be on this machine, and say so in the log."""
        if self._confinement is None:
            self._log.warn("evaluation is {mode}", mode=OPEN)
            return
        with suppress(StorageFull, NixUnavailable):  # what is known can be served without it
            self._install()
        errors = LastLines()
        view = self._surroundings({}, [])
        ended = await self._processes.run(["true"], errors.take, surroundings=view)
        self.has_view = ended.code == 0
        if self.has_view:
            self._log.info("evaluation is {mode}", mode=CONFINED)
        else:
            reason = errors.text()
            self._log.warn("evaluation is {mode} ({reason})", mode=WITHOUT_VIEW, reason=reason)

    async def prepare(self, name: str, request: Mapping[str, Any]) -> Prepared:
        """What has Nix evaluate an expression.

        :param name: of its file, without ``.nix``.
        :param request: what it takes, which is data whatever it holds.
        :raises NixUnavailable: if Nix does not say how it is set, or the state folder can't be
            written to.
        :raises StorageFull: if there is no room in it.
        """
        is_flake = request["source"]["type"] == "flake"
        options = (
            list(FLAKES) if is_flake else [*_option("pure-eval", "false"), *_may_read(request)]
        )
        view = None
        if self._confinement is not None:
            self._install()
            if self._settings is None:
                self._settings = await self._commands.configuration()
            settings = self._settings
            uris = [*self._confinement.uris, *request["source"].get("origins", ())]
            options += _restrictions(is_flake, settings, uris)
            view = self._surroundings(settings, _paths_of(request))
            if self.has_view and self._collects_garbage():
                # It would take roots that it does not see for gone.
                options += _option("min-free", "0")
        text = _expression(self._expressions, name)
        given = ("--argstr", "request", canonical_json(request))
        return Prepared([*options, *given, "--expr", "--", text], view)

    def _install(self) -> None:
        if self._confinement is None:
            return
        self._confinement.make_folders()
        if not self._installed:
            self._confinement.install()
            self._installed = True

    def _surroundings(self, settings: Mapping[str, str], read: Sequence[str]) -> Surroundings:
        """What an evaluation sees.

        :param settings: Nix's: files that they name are needed by Nix itself.
        :param read: paths that the set may read.
        """
        confinement = self._confinement
        assert confinement is not None
        if not self.has_view:
            return Surroundings(confinement.environ)
        named = {path for value in settings.values() for path in _PATH.findall(value)}
        return Surroundings(confinement.environ, confinement.mounts(sorted(named), read))

    def _collects_garbage(self) -> bool:
        """Whether Nix does that itself, rather than a daemon for it."""
        return self._commands.store is not None or os.access(_GC_ROOTS, os.W_OK)


def mode_of(confinement: Confinement | None) -> str:
    """How evaluation would be confined, for people. It takes a moment in which all waits."""
    if confinement is None:
        return OPEN
    command = kept(["true"], confinement.mounts())
    ended = subprocess.run(command, env=confinement.environ, capture_output=True, check=False)
    return CONFINED if ended.returncode == 0 else WITHOUT_VIEW


def _restrictions(is_flake: bool, settings: Mapping[str, str], uris: Sequence[str]) -> list[str]:
    """Options that confine an evaluation.

    :param settings: Nix's.
    :param uris: beginnings of those that may be fetched.
    """
    options = _option("allow-unsafe-native-code-during-evaluation", "false")
    options += _option("restrict-eval", "true")
    if uris:
        options += _option("extra-allowed-uris", " ".join(uris))
    if is_flake:
        options += _option("pure-eval", "true")
    else:
        # With flakes', Nix before 2.20 fetches any folder of the machine, restricted or not.
        features = settings.get("experimental-features", "").split()
        kept = " ".join(each for each in features if each not in _FLAKE_FEATURES)
        options += _option("experimental-features", kept)
    return options


def _option(name: str, value: str) -> list[str]:
    return ["--option", name, value]


def _may_read(request: Mapping[str, Any]) -> list[str]:
    """Options that allow a restricted evaluation to read what the operator has named."""
    return [word for path in _paths_of(request) for word in ("-I", f"nixery={path}")]


def _paths_of(request: Mapping[str, Any]) -> list[str]:
    source, overlays = request["source"], request.get("configuration", {}).get("overlays")
    named = [path for path in (source.get("path"), overlays) if path is not None]
    return _both(named)


def _both(paths: Sequence[str]) -> list[str]:
    """Paths as they are written, and what they stand for: Nix looks at both."""
    return list(dict.fromkeys(p for path in paths for p in (path, os.path.realpath(path))))


@cache
def _expression(folder: str, name: str) -> str:
    """An expression as one text: Nix may be kept from reading the files."""

    def text_of(part: str) -> str:
        with open(os.path.join(folder, f"{part}.nix"), encoding="utf-8") as file:
            return f"({file.read()}\n)"

    parts = "".join(f" {given} = {text_of(part)};" for given, part in _PARTS[name].items())
    return f"{{ request }}: {text_of(name)} {{ inherit request;{parts} }}"
