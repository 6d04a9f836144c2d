"""Connections that are lent, while nothing is being answered on them, to processes that know
answers too."""

from functools import partial
from typing import Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.python.failure import Failure

from nixery.http.asked_head import AskedHead
from nixery.http.bounded_site import BoundedSite
from nixery.http.knowing_channel import KnowingChannel
from nixery.http.known_answers import KnownAnswer
from nixery.http.request import peer_address, sender_of
from nixery.model.networks import network_of
from nixery.model.service_errors import TooMuchUnread
from nixery.serving.responders import Known

LEASE = 1.0
"""Seconds for which others give an answer before they ask whether it still holds."""


class ILender(Protocol):
    """Lends connections, and teaches those who have them.

    :ivar generation: of the answers that may be given.
    """

    generation: int

    def lend(self, connection: "LendableChannel") -> bool:
        """Lend one that rests, if somebody wants it.

        :return: whether it is lent now.
        """

    def teach(self, known: Known, seconds: float, generation: int) -> None:
        """Teach an answer: see :meth:`nixery.serving.responders.Responders.teach`."""


class LendableChannel(KnowingChannel):
    """A connection that is lent while it rests, and returned when something unknown has come.

    It stays open here, in its place among the others: closing it ends it for the borrower too.

    :ivar lender: lends it; set in a subclass.
    """

    lender: ILender

    _lent = False
    _ends = False  # it is closed when it is returned

    def connectionMade(self) -> None:
        """Take the connection, and lend it."""
        super().connectionMade()
        self._offer()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the connection."""
        self._lent = False
        super().connectionLost(reason)

    @property
    def is_of_proxy(self) -> bool:
        """Whether it is one with a trusted proxy."""
        return peer_address(self.transport.getPeer()) in self.site.trusted

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self.transport.fileno())

    def sender(self, hops: bytes) -> str:
        """The address of a client.

        :param hops: the addresses that a trusted proxy has named.
        """
        peer = peer_address(self.transport.getPeer())
        return sender_of(peer, (hops,) if hops else (), self.site.trusted)

    def was_used(self, closes: bool) -> None:
        """A request was answered while it was lent.

        :param closes: whether the connection is to be closed once it is returned.
        """
        if self._lent:
            self._fresh, self._ends = False, closes
            self._rested = self.site.known.seconds()
            self.site.bounds.connections.rested_again(self)

    def returned(self, unsent: bytes = b"") -> None:
        """Go on with it.

        :param unsent: the rest of an answer that was begun.
        """
        if not self._lent:
            return  # it was closed meanwhile
        self._lent = False
        if unsent and not self._send_rest(unsent):
            self.cut()
        elif self._ends:
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
        bounds, client = self.site.bounds, network_of(self.sender(b""))
        try:
            self._unsent.enter_context(bounds.untaken.whole(client, len(unsent)))
        except TooMuchUnread:
            return False
        bounds.connections.works(self)
        self.send(unsent)
        return True

    def _after_answer(self) -> None:
        super()._after_answer()
        if not self.paused:
            self._unsent.close()
            self._offer()

    def _give(self, answer: KnownAnswer, asked: AskedHead) -> bool:
        generation = self.lender.generation
        if not super()._give(answer, asked):
            return False
        to_date, to_id, rest = answer.head
        note = partial(self.site.known.note, answer)
        known = Known(asked.key, to_date, to_id, rest + answer.body, answer.closes, note)
        self.lender.teach(known, LEASE, generation)
        self._offer()
        return True

    def _offer(self) -> None:
        """Lend the connection if it rests, once all that was written has left."""
        below = self.transport
        if not isinstance(below, FileDescriptor) or self._closing or self.paused:
            return  # what is spoken below is not HTTP, or the connection does not rest
        if self.has_unsent:
            below.doWrite()
        if self._is_at_rest and below.connected and self.lender.lend(self):
            self._lent = True
            self.pause_reading()


def lend(site: BoundedSite, lender: ILender) -> None:
    """Have the connections of a site lent while they rest."""
    lending = type("LendingChannel", (LendableChannel,), {"lender": lender})
    site.protocol = lending  # type: ignore[assignment]
