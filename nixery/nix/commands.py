"""The commands of Nix, on one store."""

from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred

from nixery.model.closure import Graph, Node, parse_path_info
from nixery.model.errors import NixUnavailable
from nixery.model.registration import ValidPath, parse_registration
from nixery.model.source import LockedFlake
from nixery.model.text import cut
from nixery.nix.disk_faults import full_store
from nixery.nix.flakes import check_inputs, parse_flake_archive, parse_flake_metadata
from nixery.nix.lines import LastLines, OnLines
from nixery.nix.process import Ended, Processes, Surroundings

_NIX_COMMAND = ("--extra-experimental-features", "nix-command")
FLAKES = ("--extra-experimental-features", "nix-command flakes")
_AS_LOCKED = ("--json", "--no-update-lock-file", "--no-write-lock-file", "--")
_OWN_STORE = (
    # Nix as root wants a group of build users, which a store of one's own has no need of.
    *("--option", "build-users-group", ""),
    # What builders print is in the histories of builds, which are bounded; these logs are not,
    # and no garbage collection removes them.
    *("--option", "keep-build-log", "false"),
    # Where it can make no sandbox, Nix would run the builder without one, outside of this store,
    # before it says that the build has failed.
    *("--option", "sandbox-fallback", "false"),
)
_DELETE_LIMIT = 30.0
_AT_ONCE = 1000
"""Paths that fit on one command line, whatever the system's limit."""


class Commands:
    """Runs Nix's programs and reads what they print."""

    def __init__(
        self,
        processes: Processes,
        store: str | None,
        fetching: Callable[[], Surroundings] | None = None,
    ) -> None:
        """
        :param store: a folder for ``--store``; none for the machine's own store or daemon.
        :param fetching: says what is seen of the machine when a flake is fetched with its inputs,
            if these may not be places on it.
        """
        self._fetching = fetching
        self.store = store
        self.memory = processes.memory
        self._processes = processes

    def run(
        self,
        program: str,
        *arguments: str,
        on_lines: OnLines,
        before: Sequence[str] = (),
        limit: float | None = None,
        surroundings: Surroundings | None = None,
    ) -> "Deferred[Ended]":
        """Run a program of Nix on the store.

        :param on_lines: gets batches of the lines of its standard error.
        :param before: a command that runs the command which follows it.
        :param limit: seconds after which it is ended.
        :param surroundings: what it sees, if not what all children see.
        """
        command = [*before, program, *self._options(), *arguments]
        return self._processes.run(command, on_lines, limit, surroundings)

    async def configuration(self) -> dict[str, str]:
        """Nix's settings as they are in force, as ``nix.conf`` has them.

        :raises NixUnavailable: if Nix does not say.
        """
        try:
            printed = await self._output("nix", *_NIX_COMMAND, "show-config")
        except NixUnavailable:  # it has another name by now
            printed = await self._output("nix", *_NIX_COMMAND, "config", "show")
        parts = (line.partition(" = ") for line in printed.splitlines())
        return {name: value for name, _, value in parts}

    async def version(self) -> str:
        """What Nix prints as its version.

        :raises NixUnavailable: if it does not say.
        """
        return (await self._output("nix", "--version")).strip()

    async def delete(self, derivation: str) -> None:
        """Remove a derivation and its outputs from the store, unless something needs them.

        :raises NixUnavailable: if they can't be removed, or a garbage collection that runs keeps
            others waiting for long.
        """
        outputs = await self._output("nix-store", "--query", "--outputs", "--", derivation)
        delete = ("nix-store", "--delete", "--", *outputs.split(), derivation)
        await self._output(*delete, limit=_DELETE_LIMIT)

    async def closure(self, paths: Sequence[str]) -> Graph:
        """The reference graph of valid store paths and of all that they refer to.

        :raises NixUnavailable: if the store can't tell.
        """
        graph: dict[str, Node] = {}
        for some in _portions(sorted(set(paths))):
            printed = await self._output(
                "nix", *_NIX_COMMAND, "path-info", "--json", "--recursive", "--", *some
            )
            try:
                graph.update(parse_path_info(printed))
            except ValueError as error:
                raise NixUnavailable(str(error)) from error
        return graph

    async def registered(self, paths: Sequence[str]) -> list[ValidPath]:
        """What the store's database says of store paths, in their order.

        :raises NixUnavailable: if it does not say it of all of them.
        """
        found: list[ValidPath] = []
        for some in _portions(sorted(set(paths))):
            printed = await self._output("nix-store", "--dump-db", "--", *some)
            try:
                found += parse_registration(printed, some)
            except ValueError as error:
                raise NixUnavailable(str(error)) from error
        return found

    async def valid(self, paths: Sequence[str]) -> list[str]:
        """Those of some store paths that are in the store."""
        invalid: set[str] = set()
        for some in _portions(paths):
            check = ("--check-validity", "--print-invalid", "--")
            invalid.update((await self._output("nix-store", *check, *some)).split())
        return [path for path in paths if path not in invalid]

    async def add(self, folder: str) -> str:
        """Copy a folder into the store, under its own name.

        :return: its store path.
        """
        return (await self._output("nix-store", "--add", "--", folder)).strip()

    async def keep(self, paths: Sequence[str], link: str) -> None:
        """Keep the garbage collector from store paths, as long as there are links to them.

        :param link: the first; the others have ``-2``, ``-3`` and so on at their ends.
        """
        await self._output("nix-store", "--add-root", link, "--realise", "--", *paths)

    async def lock(self, reference: str) -> LockedFlake:
        """What a flake reference stands for at the moment.

        :raises EvaluationFailed: if it has inputs that it may not have.
        :raises NixUnavailable: if the flake can't be read, or does not itself say the revisions
            of its inputs.
        """
        printed = await self._flake("metadata", reference)
        try:
            if self._fetching is not None:
                check_inputs(printed)
            return parse_flake_metadata(printed, self.store or "")
        except ValueError as error:
            raise NixUnavailable(str(error)) from error

    async def archive(self, reference: str) -> list[str]:
        """Have a locked flake and all its inputs in the store.

        :return: their store paths.
        """
        printed = await self._flake("archive", reference)
        try:
            return parse_flake_archive(printed)
        except ValueError as error:
            raise NixUnavailable(str(error)) from error

    async def _flake(self, command: str, reference: str) -> str:
        arguments = (*FLAKES, "flake", command, *_AS_LOCKED, reference)
        seen = None if self._fetching is None else self._fetching()
        return await self._output("nix", *arguments, surroundings=seen)

    async def _output(
        self,
        program: str,
        *arguments: str,
        surroundings: Surroundings | None = None,
        limit: float | None = None,
    ) -> str:
        """What a program of Nix prints.

        :param surroundings: what it sees, if not what all children see.
        :param limit: seconds after which it is ended.
        :raises NixUnavailable: if it fails.
        """
        errors = LastLines()
        ended = await self.run(
            program, *arguments, on_lines=errors.take, limit=limit, surroundings=surroundings
        )
        if ended.outgrown:
            raise NixUnavailable(f"{program} takes more than {self.memory:,} bytes of memory")
        if ended.code != 0:
            text = errors.text()
            raise full_store(text) or NixUnavailable(cut(text, 2000))
        return ended.output.decode("utf-8")

    def _options(self) -> list[str]:
        if self.store is None:
            return []
        return ["--store", self.store, *_OWN_STORE]


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _AT_ONCE):
        yield paths[start : start + _AT_ONCE]
