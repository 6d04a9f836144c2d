"""Building derivations again, to see whether they come out the same: ``nix-store --check``."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress

import attrs
from twisted.internet.interfaces import IReactorThreads

from nixery.model.closure import store_name
from nixery.model.errors import NixeryError
from nixery.model.reproduction import RebuiltDerivation
from nixery.model.text import cut, readable
from nixery.nix.commands import Commands
from nixery.nix.first_difference import first_difference
from nixery.nix.messages import first_words
from nixery.reactor import in_thread

_NOT_DETERMINISTIC = 104
"""Nix's exit code if an output came out differently, and nothing else is wrong."""
_ERROR = re.compile(r"^error: .*", re.MULTILINE | re.DOTALL)
_OUTPUTS = re.compile(rb"Derive\(\[(.*?)\],\[", re.DOTALL)
_OUTPUT = re.compile(rb'\("([^"]+)","(/nix/store/[^"]+)","([^"]*)","[^"]*"\)')
_HEAD = 64 * 1024  # bytes of a derivation that are read: its outputs come first
_REASON = 300


@attrs.frozen
class _Output:
    """An output of a derivation.

    :param fixed: whether its digest was known before it was made.
    """

    name: str
    path: str
    fixed: bool


@attrs.frozen
class Rebuilder:
    """Builds derivations of the store again, one after the other, with the least priority.

    :param time_limit: seconds that a builder may run.
    """

    _reactor: IReactorThreads
    _commands: Commands
    _time_limit: int

    async def rebuild(self, derivation: str) -> RebuiltDerivation:
        """Build a derivation again, and compare its outputs with those that are in the store.

        What differs is removed again, also if this is cancelled.

        :param derivation: its store path.
        :raises NixUnavailable: if Nix can't be asked.
        """
        try:
            outputs = await in_thread(self._reactor, self._outputs, derivation)
        except (OSError, ValueError):
            return RebuiltDerivation(derivation, "skipped", "it is no longer in the Nix store")
        if any(output.fixed for output in outputs):
            # To build it again is to download it again; Nix compared it with its digest then.
            return RebuiltDerivation(
                derivation, "skipped", "its digest is fixed by the package set"
            )
        valid = await self._commands.valid([output.path for output in outputs])
        there = [output for output in outputs if output.path in valid]
        if not there:
            reason = "the Nix store has none of its outputs any more"
            return RebuiltDerivation(derivation, "skipped", reason)
        # Nix refuses to check a derivation of which it lacks any output, unless others are named.
        return await self._check(derivation, there)

    async def _check(self, derivation: str, outputs: Sequence[_Output]) -> RebuiltDerivation:
        wanted = f"{derivation}!{','.join(output.name for output in outputs)}"
        try:
            ended = await self._commands.run(
                "nix-store",
                *("--realise", "--check", "--timeout", str(self._time_limit)),
                # Keeps the new output beside the old one. Of --keep-failed, which does so too, the
                # builder's folder would be left as well.
                *("--option", "run-diff-hook", "true", "--option", "diff-hook", ""),
                *("--", wanted),
                before=("nice", "-n", "19"),
            )
            if ended.code == 0:
                return RebuiltDerivation(derivation, "same")
            if ended.code == _NOT_DETERMINISTIC:
                detail = await in_thread(self._reactor, self._difference, outputs)
                return RebuiltDerivation(derivation, "differs", detail)
        finally:
            await self._remove_copies(outputs)
        said = _ERROR.search(ended.errors)
        reason = first_words(said[0]) if said else f"nix-store ended with code {ended.code}"
        shown = cut(readable(" ".join(reason.split())), _REASON)
        return RebuiltDerivation(derivation, "failed", shown)

    def _outputs(self, derivation: str) -> list[_Output]:
        """The outputs of a derivation. Blocks.

        :raises OSError: if it is not in the store.
        :raises ValueError: if it is none.
        """
        with open(self._physical(derivation), "rb") as file:
            listed = _OUTPUTS.match(file.read(_HEAD))
        if listed is None:
            raise ValueError(derivation)
        return [
            _Output(name.decode("ascii"), path.decode("ascii"), bool(algorithm))
            for name, path, algorithm in _OUTPUT.findall(listed[1])
        ]

    def _difference(self, outputs: Sequence[_Output]) -> str:
        """Where the first output that differs does so. Blocks."""
        for output in outputs:
            path = self._physical(output.path)
            if os.path.lexists(copy := _copy(path)):
                try:
                    return f"{store_name(output.path)}: {first_difference(path, copy)}"
                except OSError as error:
                    return f"{store_name(output.path)} differs; it can't be read: {error.strerror}"
        return "an output differs"

    async def _remove_copies(self, outputs: Sequence[_Output]) -> None:
        copies = [_copy(output.path) for output in outputs]
        for copy in copies:
            if os.path.lexists(self._physical(copy)):
                with suppress(NixeryError):  # the garbage collector removes it then
                    await self._commands.remove(copy)

    def _physical(self, path: str) -> str:
        return (self._commands.store or "") + path


def _copy(path: str) -> str:
    """Where Nix puts an output that differs from the one at a path."""
    return f"{path}.check"
