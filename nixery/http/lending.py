"""Connections that are lent, while nothing is being answered on them, to processes that know
answers too."""

from functools import partial
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.python.failure import Failure

from nixery.http.asked_head import AskedHead
from nixery.http.bounds import TOO_MUCH_UNREAD
from nixery.http.knowing_channel import KnowingChannel
from nixery.http.known_answers import KnownAnswer, KnownAnswers
from nixery.model.networks import network_of
from nixery.serving.responders import Known

LEASE = 1.0
"""Seconds for which others give an answer before they ask whether it still holds."""


class LendingSite(Protocol):
    """The parts of a site whose connections are lent."""

    protocol: Any
    known: KnownAnswers


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

    def forget(self) -> None:
        """Have nobody give the answers that were taught before."""


class LendableChannel(KnowingChannel):
    """A connection that is lent while it rests, and returned when something unknown has come.

    It stays open here, in its place among the others: closing it ends it for the borrower too.

    :ivar lender: lends it; set in a subclass.
    """

    lender: ILender

    _lent = False
    _sender = ""  # of the request that was answered last while it was lent
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
        return self.reader.is_of_proxy

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self.transport.fileno())

    def was_used(self, hops: bytes, closes: bool) -> str:
        """A request was answered while it was lent.

        :param hops: the addresses that a trusted proxy has named.
        :param closes: whether the connection is to be closed once it is returned.
        :return: the address of the client.
        """
        self._sender = self.reader.sender((hops,) if hops else ())
        if self._lent:
            self._ends = closes
            self._rested = self.site.known.seconds()
            self._given(self._sender, 0, closes=False)
        return self._sender

    def returned(self, unsent: bytes = b"") -> None:
        """Go on with it.

        :param unsent: the rest of an answer that was begun.
        """
        if not self._lent:
            return  # it was closed meanwhile
        self._lent = False
        network = network_of(self._sender) if unsent else ""
        if not self._has_room(network, len(unsent)):
            self.site.bounds.refused[TOO_MUCH_UNREAD] += 1
            self.cut()
            return
        self.resume_reading()
        if unsent:
            self.send(unsent)
        if unsent or self._ends:
            self._given(network, len(unsent), self._ends)
            self._offer()

    def cut(self) -> None:
        """End it amid an answer whose rest is not known, or for which there is no room."""
        if self.transport.connected:
            self._closing = True
            self.transport.abortConnection()

    def _after_answer(self) -> None:
        super()._after_answer()
        self._offer()

    def _give(self, answer: KnownAnswer, asked: AskedHead, began: float) -> bool:
        known, generation = self.site.known, self.lender.generation
        if not super()._give(answer, asked, began):
            return False
        to_date, to_id, rest = answer.head
        note = partial(known.note, answer.facts)
        taught = Known(asked.key, to_date, to_id, rest + answer.body, answer.closes, note)
        self.lender.teach(taught, min(LEASE, answer.until - known.seconds()), generation)
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


def lend(site: LendingSite, lender: ILender) -> None:
    """Have the connections of a site lent while they rest."""
    lending = type("LendingChannel", (LendableChannel,), {"lender": lender})
    site.protocol = lending
    # Who has seen a change here must not be told by others what was before it.
    site.known.outdated = lender.forget
