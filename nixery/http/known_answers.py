"""Answers that are known: made once, kept as they were written, and given again.

Clients send the same request again and again, byte for byte, and its head has all that decides
about the answer: method, path, version, credentials, conditions, ranges. So nothing of a request
has to be understood to know its answer. Whether that still holds, the answer itself tells: see
:meth:`nixery.http.request.RegistryRequest.keep`.
"""

import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import NO_BODY_CODES, datetimeToString

from nixery.http.asked_head import AskedHead
from nixery.http.bounds import RunningRequests
from nixery.http.fair import FairStarts
from nixery.http.request import RegistryRequest, new_id
from nixery.model.reading import Reading
from nixery.recent import Recent

AGE = 10.0
"""Seconds for which an answer is kept: all else that a request brings about, as the note that blobs
are of use, is brought about once in so many."""
MEMORY = 16 * 1024 * 1024
"""Bytes of answers that are kept."""
LARGEST = 64 * 1024
"""Bytes of a blob, or of a part of one, that is kept."""
_OWN_SIZE = 4500  # bytes of an answer besides its head and body, with what is noted of it
_DIFFERING = re.compile(rb"\r\nDate: ([^\r]*)\r\n(?:.*\r\n)?X-Request-Id: ([^\r]*)\r\n", re.DOTALL)


class IAnswerLog(Protocol):
    """Takes note of answers."""

    def facts(self, request: RegistryRequest, left: bool) -> Any:
        """All there is to note of an answer, but for what differs when it is given again.

        :param left: whether the client left before its end.
        """

    def note(self, facts: Any, id: str, sender: str, seconds: float, unsent: bool = False) -> None:
        """An answer was given.

        :param id: the request's.
        :param seconds: that it took.
        :param unsent: whether the client has left before it.
        """


@attrs.frozen
class KnownAnswer:
    """An answer as it was written, but for its date and its request's ID.

    :param head: what stands before the date, before the ID, and behind that.
    :param closes: whether the connection ends with it.
    :param always: whether it is given however many other requests its client has.
    :param until: when it is too old.
    :param again: says whether it still holds; if so, it is about to be given again.
    :param facts: see :class:`IAnswerLog`.
    """

    head: tuple[bytes, bytes, bytes]
    body: bytes
    closes: bool
    always: bool
    until: float
    again: Callable[[], bool]
    facts: Any

    @property
    def size(self) -> int:
        """Bytes of memory, at most: answers may share a body."""
        return sum(map(len, self.head)) + len(self.body) + _OWN_SIZE


class KnownAnswers:
    """The answers that are known, with what holds for every request: limits, turns, and the log.

    :ivar outdated: called when one is found to hold no longer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        requests: RunningRequests,
        starts: FairStarts,
        log: IAnswerLog,
        memory: int = MEMORY,
    ) -> None:
        """
        :param requests: those that are being answered.
        :param starts: begins them.
        :param memory: bytes of answers.
        """
        self.seconds = clock.seconds
        self.requests = requests
        self.starts = starts
        self.given = 0
        self.outdated: Callable[[], object] = lambda: None
        self._log = log
        self._kept: Recent[bytes, KnownAnswer] = Recent(clock.seconds, memory, lambda a: a.size)
        self._second, self._date = 0, b""

    def readings(self) -> list[Reading]:
        """The metrics of what is known."""
        text = "Requests that were answered with what was known."
        return [Reading("nixery_known_answers", text, lambda: self.given, total=True)]

    def find(self, asked: AskedHead) -> KnownAnswer | None:
        """The answer to a request, if it is known and its client has room for another request."""
        answer = self._kept.get(asked.key, AGE)
        if answer is None or answer.always or asked.sender == "unix":
            return answer
        return answer if self.requests.has_room(asked.network) else None

    def holds(self, answer: KnownAnswer, asked: AskedHead) -> bool:
        """Whether an answer still holds; if so, it is about to be given."""
        if answer.again():
            return True
        self._kept.forget(asked.key)
        self.outdated()
        return False

    def _fill(self, answer: KnownAnswer, id: str) -> bytes:
        """An answer as it is written now.

        :param id: the request's.
        """
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, datetimeToString(second)
        before, between, behind = answer.head
        return b"".join((before, self._date, between, id.encode(), behind, answer.body))

    def give(
        self, answer: KnownAnswer, asked: AskedHead, began: float, write: Callable[[bytes], None]
    ) -> float:
        """Give an answer.

        :param began: when its request had come.
        :return: the time then.
        """
        id = asked.id or new_id()
        write(self._fill(answer, id))
        ended = self.seconds()
        self.note(answer.facts, id, asked.sender, ended - began)
        return ended

    def left(self, answer: KnownAnswer, asked: AskedHead, began: float) -> None:
        """A client has left before it was given an answer.

        :param began: when its request had come.
        """
        id, seconds = asked.id or new_id(), self.seconds() - began
        self._log.note(answer.facts, id, asked.sender, seconds, unsent=True)

    def note(self, facts: Any, id: str, sender: str, seconds: float) -> None:
        """An answer was given, here or by another process.

        :param facts: of the answer.
        :param id: the request's.
        :param seconds: that it took.
        """
        self.given += 1
        self._log.note(facts, id, sender, seconds)

    def keep(
        self, asked: AskedHead, request: RegistryRequest, written: list[bytes], closes: bool
    ) -> None:
        """Keep the answer to a request, if its handler says that it may be.

        :param written: the answer's head, and the pieces of its body.
        """
        head, body = written[0], b"".join(written[1:])
        differing = _DIFFERING.search(head)
        if request.again is None or differing is None or not _is_whole(request, body):
            return
        (date, end), (id, id_end) = differing.span(1), differing.span(2)
        parts = head[:date], head[end:id], head[id_end:]
        facts, always = self._log.facts(request, left=False), request.route.always
        left = request.who.until - time.time()  # a client may have taken long to read
        until = self.seconds() + min(AGE, left)
        answer = KnownAnswer(parts, body, closes, always, until, request.again, facts)
        self._kept.put(asked.key, answer, until - AGE)

    def sweep(self) -> None:
        """Forget what is too old."""
        self._kept.expire(AGE)


def _is_whole(request: RegistryRequest, body: bytes) -> bool:
    """Whether what was written is all of an answer, and nothing else is.

    With ``Expect``, something is written before it.
    """
    if request.requestHeaders.hasHeader(b"expect"):
        return False
    if request.method == b"HEAD" or request.code in NO_BODY_CODES:
        return not body
    return request.responseHeaders.getRawHeaders(b"content-length") == [b"%d" % len(body)]
