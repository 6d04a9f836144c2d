"""Garbage collection of the Nix store, when its disk is low on space."""

import shutil

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.model.reading import Reading
from nixery.nix.commands import Commands
from nixery.nix.gc_roots import KeptRoots
from nixery.reactor import IReactor, in_thread
from nixery.repeats import Repeats

INTERVAL = 600.0
"""Seconds between two looks at the disk."""
LIMIT = 3600.0
"""Seconds that one collection may take."""
OWN_MIN_FREE = 5_000_000_000
"""Bytes that are kept free by default for a store of Nixery's own."""
_MORE = 1.2  # times what is lacking is freed, so that the next collection is not due at once


class Collector:
    """Has Nix delete what is not needed, once its disk is low on space.

    Running builds keep what they need: Nix locks it for them.

    :ivar collections: how many were started.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, commands: Commands, kept: KeptRoots, min_free: int | None
    ) -> None:
        """
        :param min_free: bytes to keep free; none for a default, which is 0 for the machine's own
            store: no collections.
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
        """Begin to look at the disk, again and again."""
        self._loop.start(INTERVAL).addErrback(
            lambda failure: self._log.failure("no more garbage will be collected", failure)
        )

    async def stop(self) -> None:
        """Stop looking, and end a collection that is running."""
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
                    return  # fewer roots would not help
                if await self._lacking() <= 0 or not await self._kept.drop_oldest():
                    return
        except CancelledError:
            pass  # the daemon stops
        except (NixeryError, OSError) as error:
            text = "no garbage was collected: {error}"
            self._repeats.warn(self._log, str(error), text, error=error)

    async def _lacking(self) -> int:
        """Bytes to free."""
        if self._min_free == 0:
            return 0
        free = await in_thread(self._reactor, _free, self._store)
        return 0 if free is None else self._min_free - free

    async def _collect(self, size: int) -> bool:
        """Have up to so many bytes freed.

        :return: whether Nix succeeded.
        """
        self.collections += 1
        self._log.info("the Nix store is low on space: collecting {size} bytes", size=size)
        arguments = ("--gc", "--max-freed", str(size))
        ended = await self._commands.run(
            "nix-store", *arguments, before=("nice", "-n", "19"), limit=LIMIT
        )
        if ended.code != 0:
            said = ended.errors.rpartition("\n")[2] or f"nix-store ended with code {ended.code}"
            said = f"not done within {LIMIT:.0f} s; {said}" if ended.timed_out else said
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
