"""A look at the package set: whether it can be evaluated, and which of some packages it has."""

import json
from collections.abc import Sequence

from nixery.model.errors import EvaluationFailed, NixUnavailable
from nixery.model.image import AMD64
from nixery.model.source import Channel, PinnedSource, hide_place
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.lines import LastLines
from nixery.nix.realise import set_request
from nixery.nix.refusals import in_plain_words
from nixery.nix.sources import Sources
from nixery.nix.words import first_words

LIMIT = 300.0
"""Seconds that the evaluation may take."""


class Offered:
    """Looks at package sets with Nix."""

    def __init__(self, commands: Commands, evaluator: Evaluator, sources: Sources) -> None:
        self._commands = commands
        self._evaluator = evaluator
        self._sources = sources

    async def among(self, pinned: PinnedSource, names: Sequence[str]) -> list[str]:
        """Those of some packages that a set has, for x86-64.

        Of nixpkgs it is known that it has them: it is not fetched for that.

        :raises NixeryError: if the set can't be fetched or evaluated.
        """
        if isinstance(pinned.source, Channel):
            return list(names)
        try:
            return await self._ask(pinned, names)
        except EvaluationFailed:
            # One that is broken so that nothing can catch it breaks no set: others can be pulled.
            return await self._ask(pinned, ())

    async def _ask(self, pinned: PinnedSource, names: Sequence[str]) -> list[str]:
        source = await self._sources.request(pinned)
        request = set_request(AMD64, pinned, source) | {"names": list(names)}
        prepared = await self._evaluator.prepare("offered", request)
        errors = LastLines()
        ended = await self._commands.run(
            "nix-instantiate",
            *("--eval", "--strict", "--json"),
            *prepared.arguments,
            on_lines=errors.take,
            limit=LIMIT,
            surroundings=prepared.surroundings,
        )
        if ended.timed_out:
            raise EvaluationFailed(f"it did not finish within {LIMIT:g} s")
        if ended.code != 0:
            said = first_words(in_plain_words(pinned.source, errors.text()))
            raise EvaluationFailed(hide_place(pinned.source, said) or "Nix ended without a word")
        try:
            found: list[str] = json.loads(ended.output)
        except ValueError as error:
            raise NixUnavailable(f"nix-instantiate prints what is no list: {error}") from error
        return found
