"""Connections that are lent, while nothing is being answered on them, to who answers faster."""

from contextlib import ExitStack
from typing import Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.python.failure import Failure

from nixery.http.bounded_site import BoundedSite
from nixery.http.channel import BoundedChannel
from nixery.http.request import peer_address
from nixery.http.twisted_private import has_unsent
from nixery.model.networks import network_of
from nixery.model.service_errors import TooMuchUnread


class ILender(Protocol):
    """Lends connections."""

    def lend(self, connection: "LendableChannel") -> bool:
        """Lend one that rests, if somebody wants it.

        :return: whether it is lent now.
        """


class LendableChannel(BoundedChannel):
    """A connection that is lent while it rests, and returned when something has come.

    It stays open here, and in its place among the others: closing it ends it for the borrower too.

    :ivar lender: lends it; set in a subclass.
    """

    lender: ILender

    _lent = False
    _closes = False
    _used_at = 0.0

    def connectionMade(self) -> None:
        """Take the connection, and lend it."""
        self._unsent = ExitStack()
        super().connectionMade()
        self._offer()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self._lent = False
        self._unsent.close()
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        """Close, unless the connection has been of use meanwhile."""
        left = self._used_at + self._idle_seconds - self._now() if self._used_at else 0
        if self._lent and left > 0:
            self._allow(left)
        else:
            super().timeoutConnection()

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self.transport.fileno())

    def was_used(self, closes: bool) -> None:
        """A request was answered while it was lent.

        :param closes: whether the connection is to be closed once it is returned.
        """
        if self._lent:
            self._fresh = False
            self._closes = closes
            self._used_at = self._now()
            connections = self.site.bounds.connections
            connections.works(self)
            connections.rests(self)

    def returned(self, unsent: bytes = b"") -> None:
        """Go on with it.

        :param unsent: the rest of an answer that was begun.
        """
        if not self._lent:
            return  # it was closed meanwhile
        self._lent = False
        if unsent and not self._send_rest(unsent):
            self.cut()
        elif self._closes:
            self._close()
        else:
            self.resume_reading()
            if unsent:
                self.paused = True
                self._after_answer()

    def cut(self) -> None:
        """End it, since nobody knows how much of an answer was sent."""
        if self.transport.connected:
            self._closing = True
            self.transport.abortConnection()

    def _send_rest(self, unsent: bytes) -> bool:
        """Send the rest of an answer, if there is room for it.

        :return: whether there is.
        """
        peer = peer_address(self.transport.getPeer())
        client = "unix" if peer is None else network_of(str(peer))
        bounds = self.site.bounds
        try:
            self._unsent.enter_context(bounds.untaken.whole(client, len(unsent)))
        except TooMuchUnread:
            return False
        bounds.connections.works(self)
        self.transport.write(unsent)
        return True

    def _after_answer(self) -> None:
        super()._after_answer()
        if not self.paused:
            self._unsent.close()
            self._offer()

    def _offer(self) -> None:
        """Lend the connection if it rests, once all that was written has left."""
        rests = not (self._closing or self._begun or self.paused or self.site.stopping)
        if not rests or self.site.bounds.connections.is_reserved(self):
            return
        if not isinstance(self.transport, FileDescriptor):
            return  # what is spoken below is not HTTP
        if has_unsent(self.transport):
            self.transport.doWrite()
        if has_unsent(self.transport) or not self.transport.connected:
            return  # the client is slow
        if self.lender.lend(self):
            self._lent = True
            self.pause_reading()

    def _now(self) -> float:
        seconds: float = self.site.reactor.seconds()
        return seconds


def lend(site: BoundedSite, lender: ILender) -> None:
    """Have the connections of a site lent while they rest."""
    lending = type("LendingChannel", (LendableChannel,), {"lender": lender})
    site.protocol = lending  # type: ignore[assignment]
