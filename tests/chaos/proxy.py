"""A TCP proxy that cuts connections."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.waiting import HUNG

_PIECE = 65536


class CuttingProxy:
    """Passes bytes between clients and a port of this machine, in a thread of its own."""

    def __init__(self, target: int) -> None:
        """
        :param target: the port on which the daemon listens, or will.
        """
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open: dict[int, tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._number = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(HUNG)

    def stop(self) -> None:
        """Cut everything, and end the thread."""
        self.cut(1.0, 0.0)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(HUNG)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HUNG)
        self._loop.close()

    def cut(self, share: float, fraction: float) -> int:
        """Reset some of the connections on both sides.

        :param share: how many of them, from 0 to 1.
        :param fraction: where in their order the first one is.
        :return: how many were reset.
        """
        done = asyncio.run_coroutine_threadsafe(self._cut(share, fraction), self._loop)
        return done.result(HUNG)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut(self, share: float, fraction: float) -> int:
        numbers = sorted(self._open)
        count = max(1, round(share * len(numbers))) if numbers else 0
        first = int(fraction * len(numbers))
        chosen = (numbers + numbers)[first : first + count]
        for number in chosen:
            for writer in self._open[number]:
                _reset(writer)
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        self._number += 1
        number = self._number
        self._open[number] = (writer, upstream[1])
        try:
            await asyncio.gather(_pass(reader, upstream[1]), _pass(upstream[0], writer))
        finally:
            del self._open[number]
            for side in (writer, upstream[1]):
                side.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction; its end, good or bad, is the other side's too."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    except OSError:
        _reset(writer)
        return
    with contextlib.suppress(OSError):
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None:
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def cutting_proxy(target: int) -> Iterator[CuttingProxy]:
    """Run a proxy until the block ends."""
    proxy = CuttingProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
