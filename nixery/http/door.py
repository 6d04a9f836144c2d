"""Accepting connections: most of those that there is no room for cost next to nothing.

Twisted makes a transport and a protocol for every connection that a port accepts. With a crowd that
reconnects as soon as it is turned away, the daemon would do nothing else, and the kernel would drop
the first packets of other newcomers, which then try again after a second. And whoever comes behind
a crowd does not wait until each of it was told that there is no room, which takes longer than to
find it out.
"""

import os
import socket
from collections import deque
from contextlib import suppress
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM, errorcode
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IReactorSocket,
    IReactorTime,
    IReadDescriptor,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.http.bounded_site import BoundedSite
from nixery.http.channel import bounded_client, no_room
from nixery.http.connections import NO_ROOM
from nixery.http.request import new_id, read_address
from nixery.repeats import Repeats

_SLICE = 0.02
"""Seconds of a round of the reactor in which connections are taken, or refused."""
_TOLD = 16
"""Refused connections that are told so before it is looked again whether anybody waits."""
_NO_ROOM = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
_PAUSE = 0.5
"""Seconds in which none is taken after the kernel had no room for another."""


class IDoorReactor(IReactorFDSet, IReactorSocket, IReactorTime):
    """The parts of a reactor that a door needs."""


@implementer(IListeningPort, IReadDescriptor)
class Door:
    """A port that decides about connections before Twisted makes anything for them."""

    _log = Logger()

    def __init__(self, reactor: IDoorReactor, port: Any, site: BoundedSite, is_tls: bool) -> None:
        """
        :param port: one of Twisted's that listens already.
        :param is_tls: whether TLS is spoken there: no reason is given for a refusal then.
        """
        self._reactor = reactor
        self._port = port
        self._is_tls = is_tls
        self._refuses = site.bounds.connections.refuses
        self._trusted = site.trusted
        self._asked = bytearray(site.bounds.limits.header_size)
        self._answer = b""
        self._refused: deque[socket.socket] = deque()
        self._most = site.bounds.limits.connections
        self._later: IDelayedCall | None = None
        self._pause: IDelayedCall | None = None
        self._held: socket.socket | None = None
        self._repeats = Repeats(reactor.seconds)
        port.stopReading()
        self._socket = socket.socket(fileno=os.dup(port.fileno()))
        self._is_unix = self._socket.family == socket.AF_UNIX
        reactor.addReader(self)

    def startListening(self) -> None:
        """Do nothing: the port listens."""

    def stopListening(self) -> "Deferred[None]":
        """Take no more connections."""
        self._reactor.removeReader(self)
        self._end()
        return maybeDeferred(self._port.stopListening)

    def getHost(self) -> IAddress:
        """The address of the port."""
        host: IAddress = self._port.getHost()
        return host

    def fileno(self) -> int:
        """The descriptor that the reactor watches."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """The beginning of its log lines."""
        return "door"

    def connectionLost(self, reason: Failure) -> None:
        """Close what is open, since the reactor ends."""
        self._end()

    def _end(self) -> None:
        pause, self._pause = self._pause, None
        later, self._later = self._later, None
        for each in (pause, later):
            if each is not None:
                each.cancel()
        if self._held is not None:
            self._held.close()
        while self._turned_away():
            pass
        self._socket.close()

    def doRead(self) -> None:
        """Accept connections for a short while, so that other work has its turn; those that are
        refused are told so when nobody else waits."""
        self._answer = b"" if self._is_tls else no_room(NO_ROOM).to_bytes(new_id())
        end = self._reactor.seconds() + _SLICE
        while self._pause is None and self._reactor.seconds() < end:
            try:
                connection, address = self._socket.accept()
            except BlockingIOError:
                if sum(self._turned_away() for _ in range(_TOLD)):
                    continue
                break
            except OSError as error:
                if error.errno in _NO_ROOM and not self._turned_away():
                    self._wait(error.errno)
                continue  # or the newcomer has left
            try:
                self._welcome(connection, address)
            except Exception:  # as Twisted does: the others are to be served
                self._log.failure("while taking a connection")
                connection.close()
        if self._refused and self._later is None:
            self._later = self._reactor.callLater(0, self._read_later)

    def _read_later(self) -> None:
        self._later = None
        self.doRead()

    def _welcome(self, connection: socket.socket, address: Any) -> None:
        peer = None if self._is_unix else read_address(address[0])
        if self._refuses(bounded_client(peer, self._trusted)):
            self._refused.append(connection)
            if len(self._refused) > self._most:
                self._turned_away()
            return
        connection.setblocking(False)
        self._adopt(connection)

    def _turned_away(self) -> bool:
        """Tell one that there is no room, the one that has waited longest for that.

        :return: whether there was one.
        """
        if not self._refused:
            return False
        with self._refused.popleft() as connection:
            # What is not read by then would have the kernel take back the answer, which leaves in
            # one packet with the end of the connection.
            with suppress(OSError):
                connection.recv_into(self._asked, flags=socket.MSG_DONTWAIT)
            with suppress(OSError):
                connection.send(self._answer, socket.MSG_DONTWAIT | socket.MSG_MORE)
        return True

    def _adopt(self, connection: socket.socket) -> None:
        """Hand a connection to Twisted, which needs room for one more descriptor."""
        adopt: Any = self._reactor.adoptStreamConnection
        try:
            self._read(adopt(connection.fileno(), connection.family, self._port.factory))
        except OSError as error:
            if error.errno in _NO_ROOM and self._turned_away():
                return self._adopt(connection)
            if error.errno in _NO_ROOM:
                self._held = connection
                self._wait(error.errno)
                return  # otherwise the client has left
        except Exception:  # as Twisted does: the others are to be served
            self._log.failure("while taking a connection")
        connection.close()

    def _read(self, transport: Any) -> None:
        """Read what a newcomer has sent: where many wait to be accepted, it is mostly here, and
        would wait for another round of the reactor. What is wrong with the connection, that finds.
        """
        if transport is None or transport.disconnecting or self._is_tls:
            return
        if getattr(transport.protocol, "reading_paused", False):
            return  # it was lent at once
        try:
            transport.doRead()
        except Exception:  # as Twisted does
            self._log.failure("while reading from a new connection")
            transport.abortConnection()

    def _wait(self, number: int) -> None:
        """Stop accepting for a while: the reactor would report newcomers again and again."""
        text, error = "can't accept more connections for now ({error})", errorcode[number]
        self._repeats.warn(self._log, error, text, error=error)
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._reactor.addReader(self)
        held, self._held = self._held, None
        if held is not None:
            self._adopt(held)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class DoorEndpoint:
    """An endpoint whose connections come in at a door.

    :param endpoint: the one below, of whatever kind.
    :param is_tls: see :class:`Door`.
    """

    reactor: IDoorReactor
    endpoint: IStreamServerEndpoint
    is_tls: bool

    def listen(self, protocolFactory: IProtocolFactory) -> "Deferred[IListeningPort]":
        """Listen for connections to a factory, a :class:`BoundedSite`."""
        site = cast(BoundedSite, protocolFactory)
        listening = self.endpoint.listen(protocolFactory)
        return listening.addCallback(lambda port: Door(self.reactor, port, site, self.is_tls))
