"""Garbage of the Nix store, collected when there is little room."""

import shutil
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.model.reading import Reading
from nixery.nix.commands import Commands
from nixery.nix.gc_roots import KeptRoots
from nixery.repeats import Repeats

INTERVAL = 600.0
"""Seconds between two looks at the disk."""
LIMIT = 3600.0
"""Seconds that one collection may take."""
OWN_MIN_FREE = 5_000_000_000
"""Bytes that are kept free for a store of Nixery's own, if nobody says otherwise."""
_MORE = 1.2  # times what is lacking is freed, so that it is not to be done again at once


class Collector:
    """Has Nix delete what nobody keeps, once there is little room for more.

    Running builds keep what they need: Nix locks it for them.

    :ivar collections: how often Nix was asked to.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, commands: Commands, kept: KeptRoots, min_free: int | None
    ) -> None:
        """
        :param min_free: bytes; none for a default that spares the machine's own store.
        """
        own = commands.store is not None
        self.collections = 0
        self._reactor = reactor
        self._commands = commands
        self._kept = kept
        self._store = (commands.store or "") + "/nix/store"
        self._min_free = min_free if min_free is not None else OWN_MIN_FREE * own
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._looking: Deferred[None] | None = None
        self._repeats = Repeats(reactor.seconds)

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(INTERVAL).addErrback(lambda failure: self._log.failure("", failure))

    async def stop(self) -> None:
        """Look no more; a collection that runs is ended."""
        if self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            self._looking.cancel()

    def readings(self) -> list[Reading]:
        """The metric of collections."""
        return [
            Reading(
                "nixery_nix_collections",
                "How often Nix was asked to make room.",
                lambda: self.collections,
                total=True,
            )
        ]

    def _look(self) -> "Deferred[None]":
        self._looking = Deferred.fromCoroutine(self.collect())
        return self._looking

    async def collect(self) -> None:
        """Drop old roots, and make room if there is too little."""
        try:
            await self._kept.expire()
            while (lacking := await self._lacking()) > 0:
                if not await self._collect(int(lacking * _MORE)):
                    return  # that there are fewer roots would be of no help
                if await self._lacking() <= 0 or not await self._kept.drop_oldest():
                    return
        except CancelledError:
            pass  # the daemon stops
        except (NixeryError, OSError) as error:
            text = "no garbage was collected: {error}"
            self._repeats.warn(self._log, str(error), text, error=error)

    async def _lacking(self) -> int:
        """Bytes that are to be freed."""
        if self._min_free == 0:
            return 0
        pool = self._reactor.getThreadPool()
        free = await deferToThreadPool(self._reactor, pool, _free, self._store)
        return 0 if free is None else self._min_free - free

    async def _collect(self, size: int) -> bool:
        """Have so many bytes freed, if there are.

        :return: whether Nix did its work.
        """
        self.collections += 1
        self._log.info("the Nix store lacks room: {size} bytes are to be freed", size=size)
        lines: list[bytes] = []
        ended = await self._commands.run(
            "nix-store",
            "--gc",
            *("--max-freed", str(size)),
            on_lines=lambda batch: lines.extend(batch[-1:]),
            before=("nice", "-n", "19"),
            limit=LIMIT,
        )
        said = lines[-1].decode("utf-8", "replace") if lines else ""
        if ended.code != 0:
            said = f"no end within {LIMIT:.0f} s; {said}" if ended.timed_out else said
            text = "no garbage was collected: {said}"
            self._repeats.warn(self._log, said, text, said=said, code=ended.code)
            return False
        freed = ended.output.decode("utf-8", "replace").strip().rpartition("\n")[2]
        self._log.info("Nix's garbage collector ended: {freed}", freed=freed)
        return True


def _free(store: str) -> int | None:
    """Bytes that are free for a store; none if there is no store yet, hence nothing to collect."""
    try:
        return shutil.disk_usage(store).free
    except FileNotFoundError:
        return None
