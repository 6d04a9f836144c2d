"""The commands of Nix, on one store."""

from collections.abc import Iterator, Sequence

from nixery.model.closure import Graph, Node, parse_path_info
from nixery.model.errors import NixUnavailable
from nixery.nix.process import Ended, OnLines, Processes

_AT_ONCE = 1000
"""Paths that fit on one command line, whatever the system's limit."""


class Commands:
    """Runs Nix's programs and reads what they print."""

    def __init__(self, processes: Processes, store: str | None) -> None:
        """
        :param store: a folder for ``--store``; none for the machine's own store or daemon.
        """
        self.store = store
        self._processes = processes

    async def run(self, program: str, *arguments: str, on_lines: OnLines) -> Ended:
        """Run a program of Nix on the store.

        :param on_lines: gets batches of the lines of its standard error.
        """
        return await self._processes.run([program, *self._options(), *arguments], on_lines)

    async def closure(self, paths: Sequence[str]) -> Graph:
        """The reference graph of valid store paths and of all that they refer to.

        :raises NixUnavailable: if the store can't tell.
        """
        graph: dict[str, Node] = {}
        for some in _portions(sorted(set(paths))):
            enabled = ("--extra-experimental-features", "nix-command")
            printed = await self._output(
                "nix", *enabled, "path-info", "--json", "--recursive", "--", *some
            )
            try:
                graph.update(parse_path_info(printed))
            except ValueError as error:
                raise NixUnavailable(str(error)) from error
        return graph

    async def valid(self, paths: Sequence[str]) -> list[str]:
        """Those of some store paths that are in the store."""
        invalid: set[str] = set()
        for some in _portions(paths):
            check = ("--check-validity", "--print-invalid", "--")
            invalid.update((await self._output("nix-store", *check, *some)).split())
        return [path for path in paths if path not in invalid]

    async def evaluate(self, expression: str, request: str) -> str:
        """The value of an expression for a request, as JSON."""
        options = ("--eval", "--strict", "--json", "--argstr", "request", request)
        return await self._output("nix-instantiate", *options, "--", expression)

    async def _output(self, program: str, *arguments: str) -> str:
        errors: list[bytes] = []
        ended = await self.run(program, *arguments, on_lines=errors.extend)
        if ended.code != 0:
            raise NixUnavailable(b"\n".join(errors).decode("utf-8", "replace")[:2000])
        return ended.output.decode("utf-8")

    def _options(self) -> list[str]:
        if self.store is None:
            return []
        # Nix as root wants a group of build users, which a store of one's own has no need of.
        return ["--store", self.store, "--option", "build-users-group", ""]


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _AT_ONCE):
        yield paths[start : start + _AT_ONCE]
