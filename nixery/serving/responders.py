"""The processes that answer what is known beside the daemon, and that are replaced when they die.

The daemon accepts every connection and keeps it for as long as it is open. While no request is
being answered on one, it is lent to a responder (:mod:`nixery.serving.responder`), which gives it
back with the first request that it has no answer for. All that is not known at once, and all that
takes long, is so answered by the daemon, on the client's own connection.
"""

import itertools
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorProcess, IReactorTime
from twisted.logger import Logger

from nixery.child_python import module_paths
from nixery.lifecycle import Timer
from nixery.model.reading import Reading, children
from nixery.serving.link import ILendable, ResponderLink
from nixery.serving.packets import Answer, Answered

BEAT_SECONDS = 5.0
"""Seconds within which a responder must show that it lives."""
_QUICK = 10.0
"""Seconds after which a process that ends is replaced at once."""
_LONGEST_PAUSE = 60.0
_GRACE = 2.0
"""Seconds that a process may take to end."""
_KEPT = 2 * BEAT_SECONDS
"""Seconds after its end for which an answer is known by its number: no responder is silent for
longer about what it has answered."""


@attrs.frozen
class Known:
    """An answer that holds for a while.

    :param key: of the request that it is for: see :mod:`nixery.model.request_key`.
    :param to_date: its bytes before the value of the header Date.
    :param to_id: its bytes between that and the value of X-Request-ID.
    :param rest: its bytes behind that.
    :param closes: whether the connection is closed behind it.
    :param note: called for each request that was answered: with its ID, its sender, and how many
        seconds it took.
    """

    key: bytes
    to_date: bytes
    to_id: bytes
    rest: bytes
    closes: bool
    note: Callable[[str, str, float], None]


@attrs.frozen
class _Taught:
    """An answer without its bytes, which would be many."""

    key: bytes
    closes: bool
    note: Callable[[str, str, float], None]
    generation: int
    until: float


class IReactorOfResponders(IReactorTime, IReactorFDSet):
    """The parts of a reactor that responders need."""


class Responders:
    """The responders, and what they are lent and taught.

    :ivar generation: of the answers that may be given: an odd number while none may.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorOfResponders,
        processes: IReactorProcess,
        count: int,
        secret: bytes,
    ) -> None:
        """
        :param processes: starts the processes.
        :param count: how many there are.
        :param secret: makes the keys of requests.
        """
        self.replaced = 0
        self.generation = 0
        self._secret = secret
        self._lock = Lock()
        self._reactor = reactor
        self._processes = processes
        self._count = count
        self._links: list[ResponderLink] = []
        self._taught: OrderedDict[int, _Taught] = OrderedDict()
        self._last: dict[bytes, _Taught] = {}
        self._holds_until = 0.0
        self._numbers = itertools.count(1)
        self._running = False
        self._quick_ends = 0
        self._pauses: set[IDelayedCall] = set()
        self._stopped: list[Deferred[None]] = []
        self._beats = Timer(reactor, BEAT_SECONDS, self._beat, now=False)

    def readings(self) -> list[Reading]:
        """The metrics of the processes."""
        return [
            children("responder", lambda: len(self._links)),
            Reading(
                "nixery_responders_replaced",
                "Responder processes that ended by themselves and were replaced.",
                lambda: self.replaced,
                total=True,
            ),
        ]

    @property
    def pids(self) -> list[int]:
        """The process IDs."""
        return [each.pid for each in self._links]

    def start(self) -> None:
        """Start the processes."""
        self._running = True
        for _ in range(self._count):
            self._spawn()
        self._beats.startService()

    async def stop(self) -> None:
        """End the processes and have all connections back; this may be said again."""
        self._running = False
        for pause in self._pauses:
            pause.cancel()
        self._pauses.clear()
        await self._beats.stopService()
        if not self._links:
            return
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        for link in self._links:
            link.end()
        late = self._reactor.callLater(_GRACE, self._kill)
        await stopped
        if late.active():
            late.cancel()

    def lend(self, connection: ILendable) -> bool:
        """Lend a connection on which nothing is being answered, if there is something to answer.

        :return: whether it is lent now.
        """
        if not self._running or self._holds_until < time.monotonic():
            return False
        ready = [link for link in self._links if link.is_ready]
        if not ready:
            return False
        return min(ready, key=lambda link: link.load).lend(next(self._numbers), connection)

    def teach(self, known: Known, seconds: float, generation: int) -> None:
        """Have the responders give an answer, unless they do.

        :param seconds: for which it holds; it is forgotten earlier if :meth:`forget` is called.
        :param generation: the one in which it was found to hold.
        """
        now = time.monotonic()
        last = self._last.get(known.key)
        if generation % 2:
            return
        if last is not None and last.generation == generation and last.until > now:
            return
        number, until = next(self._numbers), now + seconds
        texts = (known.key, known.to_date, known.to_id, known.rest)
        answer = Answer(number, generation, until, known.closes, *texts)
        if not answer.fits:
            return
        facts = (known.key, known.closes, known.note, generation, until)
        self._taught[number] = self._last[known.key] = _Taught(*facts)
        self._holds_until = max(until, self._holds_until)
        while next(iter(self._taught.values())).until < now - _KEPT:
            _, old = self._taught.popitem(last=False)
            if self._last.get(old.key) is old:
                del self._last[old.key]
        packet = answer.to_bytes()
        for link in self._links:
            link.send(packet)  # one that is busy is taught another time

    def forget(self) -> None:
        """Have the responders give none of the answers that they have, from now on."""
        with self.changing():
            pass

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Have the responders give no answers for the length of a block, in any thread, and behind
        it none that was found to hold before its end."""
        with self._lock:
            self._advance()
            try:
                yield
            finally:
                self._advance()

    def _advance(self) -> None:
        self._holds_until = 0.0
        self.generation += 1
        for link in self._links:
            link.forget(self.generation)

    def answered(self, connection: ILendable, request: Answered) -> None:
        """A responder has answered a request."""
        taught = self._taught.get(request.answer)
        if taught is not None:
            sender = connection.was_used(request.hops, taught.closes)
            taught.note(request.id.decode("ascii"), sender, request.seconds)

    def ended(self, link: ResponderLink, lived: float) -> None:
        """A responder has ended, and its connections are the daemon's again."""
        with self._lock:
            self._links.remove(link)
        if not self._running:
            if not self._links:
                stopped, self._stopped = self._stopped, []
                for each in stopped:
                    each.callback(None)
            return
        self.replaced += 1
        self._quick_ends = self._quick_ends + 1 if lived < _QUICK else 0
        pause = pause_before(self._quick_ends)
        self._log.warn(
            "a responder ended: {reason}; another is started in {pause:g} s",
            reason=link.reason,
            pause=pause,
        )
        self._spawn_later(pause)

    def _spawn_later(self, pause: float) -> None:
        def spawn() -> None:
            self._pauses.remove(call)
            self._spawn()

        call = self._reactor.callLater(pause, spawn)
        self._pauses.add(call)

    def _spawn(self) -> None:
        argv = [sys.executable, "-P", "-m", "nixery.serving.responder"]
        self._last.clear()  # the new one is to learn what the others know
        try:
            link = ResponderLink(self, self._reactor)
            link.spawn(self._processes, argv, module_paths(), self._secret)
        except OSError as error:
            text = "no responder can be started: {error}; tried again in {pause:g} s"
            self._log.warn(text, error=error, pause=_LONGEST_PAUSE)
            self._spawn_later(_LONGEST_PAUSE)
        else:
            with self._lock:
                self._links.append(link)
                link.forget(self.generation)

    def _kill(self) -> None:
        for link in self._links:
            link.kill()

    def _beat(self) -> None:
        for link in list(self._links):
            link.beat()


def pause_before(quick_ends: int) -> float:
    """The seconds before another process is started.

    :param quick_ends: how many in a row have ended soon after their start.
    """
    return 0.0 if quick_ends < 2 else min(_LONGEST_PAUSE, 2.0 ** (quick_ends - 2))
