"""The daemon's end of its socket to a responder."""

import mmap
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.error import ConnectionLost, ProcessExitedAlready
from twisted.internet.interfaces import (
    IProcessTransport,
    IReactorFDSet,
    IReactorProcess,
    IReadDescriptor,
)
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.serving.packets import (
    ANSWERED,
    BEAT,
    GENERATION,
    IN_HAND,
    LEND,
    LIVES,
    MOST,
    NUMBER,
    OF_OTHERS,
    OF_PROXY,
    RETURNED,
    SHARED,
    SHARED_SIZE,
    UNSENT,
    Answered,
    number_packet,
    read_answered,
    read_number,
    read_returned,
)

_ROUND = 64
"""Packets that are read before others have their turn."""
_BUFFER = 1 << 20
"""Bytes of packets that may be under way; the kernel's own limit may be lower."""


class ILendable(Protocol):
    """A connection that can be lent while no request is being answered on it."""

    @property
    def is_of_proxy(self) -> bool:
        """Whether it is one with a trusted proxy."""

    def fileno(self) -> int:
        """Its descriptor."""

    def was_used(self, hops: bytes, closes: bool) -> str:
        """A request was answered on it.

        :param hops: the addresses that a trusted proxy has named.
        :param closes: whether it is to be closed when it is returned.
        :return: the address of the client.
        """

    def returned(self, unsent: bytes = b"") -> None:
        """It is the daemon's again, with every byte that has come since.

        :param unsent: the rest of an answer that was begun.
        """

    def cut(self) -> None:
        """It is lost: nobody knows how much of an answer was sent."""


class IPool(Protocol):
    """Is told of a responder."""

    def answered(self, connection: ILendable, request: Answered) -> None:
        """It has answered a request."""

    def ended(self, link: "ResponderLink", lived: float) -> None:
        """It has ended, after so many seconds."""


@implementer(IReadDescriptor)
class ResponderLink(ProcessProtocol):
    """A responder, what it is lent, and the socket that leads to it.

    :ivar is_ready: whether it has shown that it works.
    :ivar reason: why it has ended.
    """

    _log = Logger()

    transport: IProcessTransport

    def __init__(self, pool: IPool, reactor: IReactorFDSet) -> None:
        self.reason, self.is_ready = "", False
        self._pool = pool
        self._reactor = reactor
        self._lent: dict[int, ILendable] = {}
        self._began = time.monotonic()
        self._ending = False
        self._silent = False
        self._packet = bytearray(MOST)

    @property
    def load(self) -> int:
        """How many connections it has."""
        return len(self._lent)

    @property
    def pid(self) -> int:
        """The process's ID."""
        return int(self.transport.pid)

    def spawn(
        self,
        processes: IReactorProcess,
        argv: Sequence[str],
        environment: Mapping[str, str],
        secret: bytes,
    ) -> None:
        """Start the process.

        :param secret: that keys of requests are made with.

        :raises OSError: if there is no room for another.
        """
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                self._share(secret)
                files: dict[int, int | str] = {0: theirs.fileno(), 1: "r", 2: "r"}
                processes.spawnProcess(self, argv[0], argv, environment, childFDs=files)
        except BaseException:
            self._socket.close()
            raise
        self._reactor.addReader(self)
        self.send(BEAT)

    def _share(self, secret: bytes) -> None:
        """Share the secret, and some memory."""
        file = os.memfd_create("nixery-responder")
        try:
            os.truncate(file, SHARED_SIZE)
            self._shared = mmap.mmap(file, SHARED_SIZE)
            socket.send_fds(self._socket, [SHARED + secret], [file])
        finally:
            os.close(file)

    def lend(self, number: int, connection: ILendable) -> bool:
        """Lend a connection, if the process takes it.

        :return: whether it does.
        """
        if self._ending:
            return False
        packet = number_packet(LEND, number, OF_PROXY if connection.is_of_proxy else OF_OTHERS)
        try:
            socket.send_fds(self._socket, [packet], [connection.fileno()])
        except OSError:  # it has a lot to do, or ends
            return False
        self._lent[number] = connection
        return True

    def send(self, packet: bytes) -> bool:
        """Send a packet, if there is room for it.

        :return: whether it was sent.
        """
        try:
            self._socket.send(packet)
        except OSError:
            return False
        return True

    def forget(self, generation: int) -> None:
        """Have the process give no answers of earlier generations, from now on."""
        NUMBER.pack_into(self._shared, GENERATION, generation)

    def beat(self) -> None:
        """Ask whether the process lives; if it has said nothing since the last time, end it."""
        self.doRead()  # it may have spoken while we did not listen
        if self._silent and not self._ending:
            self._log.warn("a responder does not answer, and is killed")
            self.kill()
        self._silent = True
        self.send(BEAT)

    def end(self) -> None:
        """Have the process end, once it has nothing in hand."""
        self._ending = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End the process at once."""
        self._ending = True
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The beginning of its log lines."""
        return "responder"

    def doRead(self) -> Any:
        """Read what the process says."""
        for _ in range(_ROUND):
            packet = self._receive()
            if packet is None:
                return None
            if not packet:
                return ConnectionLost()
            self._take(packet)
        return None

    def _receive(self) -> bytes | None:
        """The next packet: empty if none will come, none if none is here."""
        try:
            size = self._socket.recv_into(self._packet)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return bytes(memoryview(self._packet)[:size])

    def connectionLost(self, reason: Failure) -> None:
        """The process has ended, or is about to."""
        self._reactor.removeReader(self)
        self.kill()

    def _take(self, packet: bytes) -> None:
        self._silent, self.is_ready = False, True
        letter = packet[:1]
        if letter == ANSWERED:
            for request in read_answered(packet):
                if (connection := self._lent.get(request.connection)) is not None:
                    self._pool.answered(connection, request)
        elif letter == RETURNED:
            for number in read_returned(packet):
                if (connection := self._lent.pop(number, None)) is not None:
                    connection.returned()
        elif letter == UNSENT:
            number, unsent = read_number(packet)
            if (connection := self._lent.pop(number, None)) is not None:
                connection.returned(unsent)
        elif letter != LIVES:
            self._log.error(
                "a responder sent a packet of an unknown kind: {packet!r}", packet=packet[:40]
            )
            self.kill()

    def outReceived(self, data: bytes) -> None:
        """Log what the process prints: it has reason to."""
        for line in data.decode("utf-8", "replace").splitlines():
            self._log.warn("responder: {line}", line=line)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Take back all that the process had."""
        self._ending = True
        self.reason = str(reason.value)
        self._reactor.removeReader(self)
        while packet := self._receive():  # what it has said last
            self._take(packet)
        self._socket.close()
        (in_hand,) = NUMBER.unpack_from(self._shared, IN_HAND)
        lent, self._lent = self._lent, {}
        for number, connection in lent.items():
            if number == in_hand:
                connection.cut()
            else:
                connection.returned()
        self._pool.ended(self, time.monotonic() - self._began)
        self._shared.close()
