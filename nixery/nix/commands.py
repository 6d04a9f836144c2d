"""The commands of Nix, on one store."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads

from nixery.model.closure import Graph, Node, parse_path_info
from nixery.model.registration import ValidPath, parse_registration
from nixery.model.service_errors import NixUnavailable
from nixery.model.source import LockedFlake
from nixery.model.text import cut
from nixery.nix.child import Ended
from nixery.nix.disk_faults import full_store
from nixery.nix.flakes import check_inputs, parse_flake_archive, parse_flake_metadata
from nixery.nix.lines import OnLines
from nixery.nix.process import Processes, Surroundings
from nixery.reactor import in_thread

_NIX_COMMAND = ("--extra-experimental-features", "nix-command")
FLAKES = ("--extra-experimental-features", "nix-command flakes")
_AS_LOCKED = ("--json", "--no-update-lock-file", "--no-write-lock-file", "--")
_OWN_STORE = (
    # As root, Nix wants a group of build users, which a separate store does not need.
    *("--option", "build-users-group", ""),
    # Build histories hold what builders print, and are bounded; these logs are not, and no garbage
    # collection removes them.
    *("--option", "keep-build-log", "false"),
    # Where Nix can make no sandbox, it would run the builder without one, outside of this store,
    # and only then fail the build.
    *("--option", "sandbox-fallback", "false"),
)
_DELETE_LIMIT = 30.0
_AT_ONCE = 1000
"""Paths that fit on one command line, whatever the system's limit."""


def find_store(
    own: str | None, state: str, environ: Mapping[str, str], machine: str = "/nix"
) -> str | None:
    """Choose the store.

    :param own: a folder that the operator named.
    :param state: the state folder.
    :param machine: where the machine's store and its daemon's socket would be.
    :return: a folder for ``nix --store``, or nothing for the machine's store: taken if this
        process may write to it, or a daemon does so for it.
    """
    if own is not None:
        return own
    daemon = os.path.join(machine, "var/nix/daemon-socket/socket")
    usable = os.path.exists(daemon) or os.access(os.path.join(machine, "store"), os.W_OK)
    return None if usable or environ.get("NIX_REMOTE") else os.path.join(state, "nix")


class Commands:
    """Runs Nix's programs and reads their output."""

    def __init__(
        self,
        reactor: IReactorThreads,
        processes: Processes,
        store: str | None,
        fetching: Callable[[], Surroundings] | None = None,
    ) -> None:
        """
        :param reactor: whose threads read long output.
        :param store: a folder for ``--store``; none for the machine's own store or daemon.
        :param fetching: gives what is seen of the machine while a flake is fetched with its
            inputs; none if these may be places on it.
        """
        self._reactor = reactor
        self._fetching = fetching
        self.store = store
        self.memory = processes.memory
        self._processes = processes

    def run(
        self,
        program: str,
        *arguments: str,
        on_lines: OnLines = lambda lines: None,
        before: Sequence[str] = (),
        limit: float | None = None,
        surroundings: Surroundings | None = None,
        silence: float | None = None,
    ) -> "Deferred[Ended]":
        """Run a program of Nix on the store: see :meth:`nixery.nix.process.Processes.run`.

        :param before: a command that runs the command which follows it.
        """
        store = () if self.store is None else ("--store", self.store, *_OWN_STORE)
        command = [*before, program, *store, *arguments]
        return self._processes.run(command, on_lines, limit, surroundings, silence)

    async def configuration(self) -> dict[str, str]:
        """Nix's settings that are in force, as in ``nix.conf``.

        :raises NixUnavailable: if Nix does not tell them.
        """
        try:
            printed = await self._output("nix", *_NIX_COMMAND, "show-config")
        except NixUnavailable:  # newer versions have renamed it
            printed = await self._output("nix", *_NIX_COMMAND, "config", "show")
        parts = (line.partition(" = ") for line in printed.splitlines())
        return {name: value for name, _, value in parts}

    async def version(self) -> str:
        """The output of ``nix --version``.

        :raises NixUnavailable: if it fails.
        """
        return (await self._output("nix", "--version")).strip()

    async def delete(self, derivation: str) -> None:
        """Remove a derivation and its outputs from the store, unless something needs them.

        :raises NixUnavailable: if they can't be removed, or not within 30 s because a garbage
            collection is running.
        """
        outputs = await self._output("nix-store", "--query", "--outputs", "--", derivation)
        await self.remove(*outputs.split(), derivation)

    async def remove(self, *paths: str) -> None:
        """Remove paths from the store, unless something needs them; for errors see
        :meth:`delete`."""
        await self._output("nix-store", "--delete", "--", *paths, limit=_DELETE_LIMIT)

    async def closure(self, paths: Sequence[str]) -> Graph:
        """The reference graph of the closure of valid store paths.

        :raises NixUnavailable: if a path is not valid.
        """
        graph: dict[str, Node] = {}
        for some in _portions(sorted(set(paths))):
            printed = await self._output(
                "nix", *_NIX_COMMAND, "path-info", "--json", "--recursive", "--", *some
            )
            with _malformed_as_unavailable():
                graph.update(await in_thread(self._reactor, parse_path_info, printed))
        return graph

    async def registered(self, paths: Sequence[str]) -> list[ValidPath]:
        """The records of store paths in the store's database, in the order of the paths.

        :raises NixUnavailable: if it lacks one of them.
        """
        found: list[ValidPath] = []
        for some in _portions(sorted(set(paths))):
            printed = await self._output("nix-store", "--dump-db", "--", *some)
            with _malformed_as_unavailable():
                found += await in_thread(self._reactor, parse_registration, printed, some)
        return found

    async def valid(self, paths: Sequence[str]) -> list[str]:
        """Those of the store paths that are in the store."""
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
        """Keep the garbage collector from store paths for as long as links to them exist.

        :param link: the first link; the others are named ``LINK-2``, ``LINK-3`` and so on.
        """
        await self._output("nix-store", "--add-root", link, "--realise", "--", *paths)

    async def lock(self, reference: str) -> LockedFlake:
        """Resolve a flake reference to what it stands for at the moment.

        :raises EvaluationFailed: if it has inputs that are not allowed.
        :raises NixUnavailable: if the flake can't be read, or does not lock its inputs itself.
        """
        printed = await self._flake("metadata", reference)
        with _malformed_as_unavailable():
            if self._fetching is not None:
                check_inputs(printed)
            return parse_flake_metadata(printed, self.store or "")

    async def archive(self, reference: str) -> list[str]:
        """Fetch a locked flake and all its inputs into the store.

        :return: their store paths.
        """
        printed = await self._flake("archive", reference)
        with _malformed_as_unavailable():
            return parse_flake_archive(printed)

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
        """The standard output of a program of Nix.

        :raises NixUnavailable: if it fails.
        """
        ended = await self.run(program, *arguments, limit=limit, surroundings=surroundings)
        if ended.outgrown:
            raise NixUnavailable(f"{program} needs more than {self.memory:,} bytes of memory")
        if ended.code != 0:
            raise full_store(ended.errors) or NixUnavailable(cut(ended.errors, 2000))
        return ended.output.decode("utf-8")


@contextmanager
def _malformed_as_unavailable() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise NixUnavailable(str(error)) from error


def _portions(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), _AT_ONCE):
        yield paths[start : start + _AT_ONCE]
