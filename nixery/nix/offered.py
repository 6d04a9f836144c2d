"""Whether the package set can be evaluated, and which of some packages it has."""

import json
from collections.abc import Sequence

from nixery.model.image import AMD64
from nixery.model.package_errors import EvaluationFailed
from nixery.model.service_errors import NixUnavailable
from nixery.model.source import Channel, PinnedSource, hide_place
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.messages import explain_refusals, first_words
from nixery.nix.sources import Sources, set_request

LIMIT = 300.0
"""Seconds that the evaluation may take."""


class Offered:
    """Looks at package sets with Nix."""

    def __init__(
        self, commands: Commands, evaluator: Evaluator, sources: Sources, system: str = AMD64
    ) -> None:
        """
        :param system: that packages are for.
        """
        self._system = system
        self._commands = commands
        self._evaluator = evaluator
        self._sources = sources

    async def among(self, pinned: PinnedSource, names: Sequence[str]) -> list[str]:
        """Those of some packages that a set has.

        nixpkgs is known to have them: it is not fetched for that.

        :raises NixeryError: if the set can't be fetched or evaluated.
        """
        if isinstance(pinned.source, Channel):
            return list(names)
        try:
            return await self._ask(pinned, names)
        except EvaluationFailed:
            # One broken package that nothing can catch breaks no set: others can be pulled.
            return await self._ask(pinned, ())

    async def _ask(self, pinned: PinnedSource, names: Sequence[str]) -> list[str]:
        source = await self._sources.request(pinned)
        request = set_request(self._system, pinned, source) | {"names": list(names)}
        prepared = await self._evaluator.prepare("offered", request)
        ended = await self._commands.run(
            "nix-instantiate",
            *("--eval", "--strict", "--json"),
            *prepared.arguments,
            limit=LIMIT,
            surroundings=prepared.surroundings,
        )
        if ended.timed_out:
            raise EvaluationFailed(f"it did not finish within {LIMIT:g} s")
        if ended.code != 0:
            said = first_words(explain_refusals(pinned.source, ended.errors))
            raise EvaluationFailed(hide_place(pinned.source, said) or "Nix gave no reason")
        try:
            found: list[str] = json.loads(ended.output)
        except ValueError as error:
            raise NixUnavailable(f"nix-instantiate did not print JSON: {error}") from error
        return found
