"""A build at the start that shows whether this machine can build at all."""

import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from twisted.logger import Logger

from nixery.model.errors import NixeryError, NixUnavailable
from nixery.model.text import cut
from nixery.nix.commands import Commands
from nixery.nix.disk_faults import full_store
from nixery.nix.evaluation import Evaluator
from nixery.nix.lines import LastLines
from nixery.nix.process import Ended
from nixery.nix.remedies import (
    NO_SANDBOX,
    NOTHING_BUILT,
    SANDBOX_OFF,
    SWITCHES,
    allow_namespaces,
    builds_nothing,
    lacks_namespaces,
    with_remedy,
)
from nixery.nix.words import first_words, printable

LIMIT = 120.0
"""Seconds that Nix may take for a derivation that needs nothing."""
OLDEST = (2, 8)
"""The version of Nix that is the oldest to do."""
PREFIX = "nixery-trial-"
_STRICT = ("--option", "sandbox-fallback", "false")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def read_switches() -> dict[str, str]:
    """The kernel's settings that decide on namespaces, as far as it has them."""
    found = {}
    for name in SWITCHES:
        with suppress(OSError), open(f"/proc/sys/{name.replace('.', '/')}") as file:
            found[name] = file.read().strip()
    return found


def too_old(printed: str) -> str | None:
    """A sentence if a version of Nix is too old.

    :param printed: by ``nix --version``.
    """
    match = re.search(r"(\d+)\.(\d+)\S*", printed)
    if match is None or (int(match[1]), int(match[2])) >= OLDEST:
        return None
    needed = ".".join(map(str, OLDEST))
    return f"Nix {match[0]} is too old: install {needed} or later"


class TrialBuild:
    """Has Nix build a derivation that needs nothing, in the way that packages are built."""

    _log = Logger()

    def __init__(
        self,
        commands: Commands,
        evaluator: Evaluator,
        switches: Callable[[], Mapping[str, str]] = read_switches,
    ) -> None:
        """
        :param switches: reads the kernel's settings that decide on namespaces.
        """
        self._commands = commands
        self._evaluator = evaluator
        self._switches = switches
        # Nothing of that name was ever built; a build that fails is not remembered, but leaves an
        # empty file of its name: it is to be one, however often it is tried.
        self._name = f"{PREFIX}{uuid.uuid4().hex}"

    async def run(self) -> str:
        """Build it.

        :return: what an operator should know, though it was built; nothing most of the time.
        :raises NixUnavailable: if it can't be built, in words that say what to do.
        :raises StorageFull: if there is no room for it.
        """
        settings = await self._settings()
        own_store = self._commands.store is not None
        isolated = own_store or settings.get("sandbox") != "false"
        falls_back = not own_store and settings.get("sandbox-fallback") == "true"
        # Nix goes on without a sandbox where it may, and does not say so.
        text = await self._build(_STRICT if isolated else ())
        if text is None:
            return "" if isolated else SANDBOX_OFF
        if builds_nothing(text):
            return NOTHING_BUILT
        if lacks_namespaces(text) and falls_back and await self._build() is None:
            return NO_SANDBOX.format(remedy=allow_namespaces(self._switches()))
        raise full_store(text) or NixUnavailable(
            with_remedy(_words(text), text, self._switches(), own_store)
        )

    async def _settings(self) -> Mapping[str, str]:
        """Nix's.

        :raises NixUnavailable: if it does not tell them, as one that is too old.
        """
        try:
            return await self._commands.configuration()
        except NixUnavailable:
            if (old := too_old(await self._commands.version())) is not None:
                raise NixUnavailable(old) from None
            raise

    async def _build(self, options: tuple[str, ...] = ()) -> str | None:
        """Build the derivation, and remove it.

        :return: what Nix printed, if it failed.
        """
        errors = LastLines()
        try:
            ended = await self._run(options, errors)
        finally:
            text = _COLOURS.sub("", errors.text())
            await self._clean(re.findall(rf"/nix/store/[0-9a-z]{{32}}-{self._name}\.drv", text))
        if ended.timed_out:
            raise NixUnavailable(f"Nix did not build within {LIMIT:g} s what takes no time at all")
        return None if ended.code == 0 else text

    async def _run(self, options: tuple[str, ...], errors: LastLines) -> Ended:
        request = {"source": {"type": "none"}, "name": self._name}
        prepared = await self._evaluator.prepare("trial", request)
        return await self._commands.run(
            "nix-build",
            "--no-out-link",
            *options,
            *prepared.arguments,
            on_lines=errors.take,
            limit=LIMIT,
            surroundings=prepared.surroundings,
        )

    async def _clean(self, derivations: list[str]) -> None:
        """Remove it from the store; where that fails, a few hundred bytes stay until the next
        garbage collection."""
        for path in dict.fromkeys(derivations):
            with suppress(NixeryError):
                await self._commands.delete(path)


def _words(text: str) -> str:
    """The errors that Nix tells of, in one line."""
    said = [first_words(line) for line in text.splitlines() if line.startswith("error:")]
    return cut(printable("; ".join(filter(None, said))), 500) or "Nix ended without a word"
