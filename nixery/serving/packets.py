"""The packets that the daemon and its responders send each other: pure.

A packet is a letter and what belongs to it. Numbers are in this machine's order: both ends are
here.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

SHARED, LEND, TEACH, BEAT = b"S", b"L", b"T", b"B"
"""To a responder: the secret that keys are made with, and the memory that is shared with it; a
connection, for the time until it has a request without a known answer; an answer; that it is to
say that it lives."""
ANSWERED, RETURNED, UNSENT, LIVES = b"A", b"R", b"U", b"V"
"""From a responder: what it has answered; connections that are the daemon's again; one with an
answer that the client has taken a part of; that it lives."""
MOST_HEAD = 8 * 1024
"""Bytes of the head of a request that a responder answers."""
MOST_PARTS = 80 * 1024
"""Bytes of an answer that it gives."""
MOST = MOST_PARTS + 1024
"""Bytes of a packet."""
OF_PROXY, OF_OTHERS = b"P", b"O"
"""Whether a connection that is lent is one with a trusted proxy."""
NUMBER = struct.Struct("=Q")
"""A number in the memory that daemon and responder share."""
IN_HAND, GENERATION, SHARED_SIZE = 0, NUMBER.size, 2 * NUMBER.size
"""Where there is what: the connection that the responder has in hand, zero for none; and the
generation of the answers that it may give: of earlier ones, the daemon wants it to give none."""
_CONNECTION = struct.Struct("=Q")
_ANSWERED = struct.Struct("=QQdBH")
_ANSWER = struct.Struct("=QQd?32sIII")


class Answered(NamedTuple):
    """A request that was answered.

    :param connection: number of the connection.
    :param answer: number of the answer.
    :param id: the request's.
    :param hops: the addresses that a trusted proxy has named, as it did.
    :param seconds: how long it took.
    """

    connection: int
    answer: int
    id: bytes
    hops: bytes
    seconds: float

    def to_bytes(self) -> bytes:
        """Its part of a packet."""
        number, answer, id, hops, seconds = self
        return _ANSWERED.pack(number, answer, seconds, len(id), len(hops)) + id + hops


class Answer(NamedTuple):
    """An answer, and the request that it is for.

    :param number: by which the daemon knows it.
    :param generation: it is given while this is the current one.
    :param until: on the monotonic clock, which all processes of a machine have in common.
    :param closes: whether the connection is closed behind it.
    :param key: of the request: see :mod:`nixery.model.request_key`.
    :param to_date: its bytes before the date.
    :param to_id: its bytes between the date and the request's ID.
    :param rest: its bytes behind the ID.
    """

    number: int
    generation: int
    until: float
    closes: bool
    key: bytes
    to_date: bytes
    to_id: bytes
    rest: bytes

    @property
    def size(self) -> int:
        """Bytes of its texts."""
        return len(self.to_date) + len(self.to_id) + len(self.rest)

    @property
    def fits(self) -> bool:
        """Whether a packet has room for it."""
        return self.size <= MOST_PARTS

    def to_bytes(self) -> bytes:
        """The packet that teaches it."""
        *facts, to_date, to_id, rest = self
        texts = (to_date, to_id, rest)
        return b"".join((TEACH, _ANSWER.pack(*facts, *map(len, texts)), *texts))

    @classmethod
    def from_bytes(cls, packet: bytes) -> "Answer":
        """Read the packet that teaches an answer."""
        number, generation, until, closes, key, *sizes = _ANSWER.unpack_from(packet, 1)
        texts, at = [], 1 + _ANSWER.size
        for size in sizes:
            texts.append(packet[at : at + size])
            at += size
        return cls(number, generation, until, closes, key, *texts)


def number_packet(letter: bytes, number: int, data: bytes = b"") -> bytes:
    """A packet about one connection."""
    return letter + _CONNECTION.pack(number) + data


def read_number(packet: bytes) -> tuple[int, bytes]:
    """The number of the connection that a packet is about, and the bytes behind it."""
    return _CONNECTION.unpack_from(packet, 1)[0], packet[1 + _CONNECTION.size :]


def answered_packets(requests: Iterable[Answered]) -> Iterator[bytes]:
    """The packets that tell what was answered."""
    return _packets(ANSWERED, [each.to_bytes() for each in requests])


def read_answered(packet: bytes) -> Iterator[Answered]:
    """The requests that a packet says were answered."""
    at = 1
    while at < len(packet):
        connection, answer, seconds, id_size, hops_size = _ANSWERED.unpack_from(packet, at)
        at += _ANSWERED.size
        id, hops = packet[at : at + id_size], packet[at + id_size : at + id_size + hops_size]
        at += id_size + hops_size
        yield Answered(connection, answer, id, hops, seconds)


def returned_packets(connections: Iterable[int]) -> Iterator[bytes]:
    """The packets that give connections back."""
    return _packets(RETURNED, [_CONNECTION.pack(each) for each in connections])


def read_returned(packet: bytes) -> Iterator[int]:
    """The connections that are given back."""
    return (number for (number,) in _CONNECTION.iter_unpack(packet[1:]))


def _packets(letter: bytes, items: list[bytes]) -> Iterator[bytes]:
    gathered, size = [letter], 1
    for each in items:
        if size + len(each) > MOST:
            yield b"".join(gathered)
            gathered, size = [letter], 1
        gathered.append(each)
        size += len(each)
    if items:
        yield b"".join(gathered)
