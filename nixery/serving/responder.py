"""The child process that answers what is known: ``python -P -m nixery.serving.responder``.

Its standard input is a socket to the daemon, which lends it connections on which no request is
being answered, and teaches it answers to requests that it recognises by all of their bytes. What it
finds on a connection is such a request, and nothing behind it: then it sends the answer. Or it is
anything else, from half a request to the end of the connection: then it leaves every byte where it
is, and gives the connection back.

The daemon keeps each connection that it lends, and all that belongs to one: bounds, timers, its
place among others. So nothing is lost with a responder, except for what it has in hand: the request
that it has taken and not answered yet. It marks that one in memory which both processes see; there
the daemon says, too, which answers are no longer to be given.

The process ends when the daemon does. It imports little: it stays in memory.
"""

import mmap
import os
import resource
import select
import signal
import socket
import time
from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from nixery.model.request_key import is_request_id, keyed_head
from nixery.serving.packets import (
    BEAT,
    GENERATION,
    IN_HAND,
    LEND,
    LIVES,
    MOST,
    MOST_HEAD,
    NUMBER,
    OF_PROXY,
    SHARED,
    SHARED_SIZE,
    TEACH,
    UNSENT,
    Answer,
    Answered,
    answered_packets,
    number_packet,
    read_number,
    returned_packets,
)

_ROUND = 64
"""Packets, and connections, that are looked at before what was done is reported."""
_FILE = 4
"""Bytes of a descriptor beside a packet."""
_MEMORY = 16 * 1024 * 1024
"""Bytes of answers that are kept."""
_OWN_SIZE = 1000
"""Bytes of an answer besides its texts."""


class _Lent(NamedTuple):
    number: int
    is_of_proxy: bool
    socket: socket.socket


class Responder:
    """Answers what is known on the connections that the daemon lends."""

    def __init__(self, daemon: socket.socket) -> None:
        """
        :param daemon: leads there, with a packet for each message.
        """
        self._daemon = daemon
        self._epoll = select.epoll()
        self._epoll.register(daemon, select.EPOLLIN)
        self._lent: dict[int, _Lent] = {}
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()  # the oldest first
        self._size = 0
        self._secret = b""
        self._shared = mmap.mmap(-1, SHARED_SIZE)  # until it comes
        self._returned: list[int] = []
        self._answered: list[Answered] = []
        self._packet = bytearray(MOST)
        self._date, self._second = b"", -1

    def run(self) -> None:
        """Work until the daemon has nothing more to do."""
        while self._round():
            pass

    def _round(self) -> bool:
        """Do what there is to do, and report it.

        :return: whether the daemon is still there.
        """
        there = True
        for descriptor, _ in self._epoll.poll(maxevents=_ROUND):
            if descriptor == self._daemon.fileno():
                there = self._hear()
            else:
                self._serve(self._lent[descriptor])
        self._report()
        return there

    def _hear(self) -> bool:
        """Read what the daemon says.

        :return: whether it is still there.
        """
        for _ in range(_ROUND):
            try:
                size, more, _, _ = self._daemon.recvmsg_into(
                    [self._packet],
                    socket.CMSG_SPACE(_FILE),
                    socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
                )
            except BlockingIOError:
                return True
            if not size:
                return False
            files = [int.from_bytes(data, "little") for _, _, data in more]
            self._obey(bytes(memoryview(self._packet)[:size]), files)
        return True

    def _obey(self, packet: bytes, files: list[int]) -> None:
        letter = packet[:1]
        if letter == LEND and files:
            self._borrow(*read_number(packet), files[0])
        elif letter == LEND:  # there was no room for one more file
            self._returned.append(read_number(packet)[0])
        elif letter == TEACH:
            self._learn(Answer.from_bytes(packet))
        elif letter == BEAT:
            self._daemon.send(LIVES)
        elif letter == SHARED:
            self._secret = packet[1:]
            self._shared = mmap.mmap(files[0], SHARED_SIZE)
            os.close(files[0])

    def _borrow(self, number: int, kind: bytes, file: int) -> None:
        # Of what kind it is matters to addresses alone, and to find out takes three system calls.
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, file)
        self._lent[file] = _Lent(number, kind == OF_PROXY, connection)
        self._epoll.register(file, select.EPOLLIN)

    def _serve(self, lent: _Lent) -> None:
        """Answer the request on a connection, or give it back."""
        began = time.monotonic()
        try:
            data = lent.socket.recv(MOST_HEAD + 1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:  # the client has left
            data = b""
        head = keyed_head(data, self._secret, False, lent.is_of_proxy, MOST_HEAD)
        answer = None if head is None else self._find(head.key, began)
        if head is None or answer is None:
            self._give_back(lent)
            return
        id = head.id if head.id and is_request_id(head.id) else os.urandom(8).hex().encode("ascii")
        self._mark(lent.number)
        lent.socket.recv(len(data))
        unsent = _send(
            lent.socket, b"".join((answer.to_date, self._now(), answer.to_id, id, answer.rest))
        )
        seconds = time.monotonic() - began
        self._answered.append(
            Answered(lent.number, answer.number, id, b",".join(head.hops), seconds)
        )
        if unsent:
            self._report()
            self._daemon.send(number_packet(UNSENT, lent.number, unsent))
            self._let_go(lent)
        elif answer.closes:
            self._give_back(lent)
        self._mark(0)

    def _find(self, key: bytes, now: float) -> Answer | None:
        """The answer to a request, if one is known that may be given."""
        answer = self._answers.get(key)
        if answer is None or answer.until < now or answer.generation != self._generation:
            return None
        return answer

    def _mark(self, number: int) -> None:
        """Mark a connection as the one in hand."""
        NUMBER.pack_into(self._shared, IN_HAND, number)

    @property
    def _generation(self) -> int:
        """The generation of the answers that may be given."""
        generation: int = NUMBER.unpack_from(self._shared, GENERATION)[0]
        return generation

    def _give_back(self, lent: _Lent) -> None:
        self._let_go(lent)
        self._returned.append(lent.number)

    def _let_go(self, lent: _Lent) -> None:
        # Closing does not end the watch, as long as the daemon has the connection open.
        self._epoll.unregister(lent.socket)
        del self._lent[lent.socket.fileno()]
        lent.socket.close()

    def _report(self) -> None:
        """Tell the daemon what was done, and wait until it takes it."""
        for packet in answered_packets(self._answered):
            self._daemon.send(packet)
        for packet in returned_packets(self._returned):
            self._daemon.send(packet)
        self._answered.clear()
        self._returned.clear()

    def _learn(self, answer: Answer) -> None:
        """Take an answer, and drop the oldest that have expired, or that there is no room for."""
        now, known = time.monotonic(), self._answers
        if answer.key in known:
            self._drop(answer.key)
        known[answer.key] = answer
        self._size += answer.size + _OWN_SIZE
        while known and (next(iter(known.values())).until < now or self._size > _MEMORY):
            self._drop(next(iter(known)))

    def _drop(self, key: bytes) -> None:
        self._size -= self._answers.pop(key).size + _OWN_SIZE

    def _now(self) -> bytes:
        """The date as HTTP has it."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = _http_date(second)
        return self._date


def _send(connection: socket.socket, data: bytes) -> bytes:
    """Send as much as a connection takes.

    :return: the rest.
    """
    try:
        return data[connection.send(data) :]
    except BlockingIOError:
        return data
    except OSError:  # the client has left, as the daemon finds out
        return b""


def _http_date(second: int) -> bytes:
    year, month, day, hour, minute, seconds, weekday, _, _ = time.gmtime(second)
    name = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[weekday]
    months = "JanFebMarAprMayJunJulAugSepOctNovDec"
    month_name = months[3 * month - 3 : 3 * month]
    text = f"{name}, {day:02} {month_name} {year} {hour:02}:{minute:02}:{seconds:02} GMT"
    return text.encode("ascii")


def main() -> None:
    """Be a responder."""
    # Signals for the daemon may reach this process too; it ends with the daemon.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # Not closed before the end: what is printed then is still read.
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, 0)
    with suppress(BrokenPipeError, ConnectionResetError):  # the daemon has ended
        Responder(daemon).run()


if __name__ == "__main__":
    main()
