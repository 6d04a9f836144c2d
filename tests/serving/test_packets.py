"""The packets between the daemon and its responders."""

from hypothesis import given
from hypothesis import strategies as st

from nixery.serving.packets import (
    MOST,
    MOST_PARTS,
    UNSENT,
    Answer,
    Answered,
    answered_packets,
    number_packet,
    read_answered,
    read_number,
    read_returned,
    returned_packets,
)

KEY_SIZE = 32
NUMBERS = st.integers(0, 2**64 - 1)
SECONDS = st.floats(0, 1e9)
KEYS = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
ANSWERS = st.builds(
    Answer, NUMBERS, NUMBERS, SECONDS, st.booleans(), KEYS, st.binary(), st.binary(), st.binary()
)
REQUESTS = st.builds(
    Answered, NUMBERS, NUMBERS, st.binary(max_size=64), st.binary(max_size=8192), SECONDS
)


@given(ANSWERS)
def test_answers(answer: Answer) -> None:
    """An answer arrives as it was taught."""
    assert Answer.from_bytes(answer.to_bytes()) == answer


def test_the_largest_answer() -> None:
    """The largest answer that fits fits into a packet; one byte more does not fit."""
    answer = Answer(
        1, 1, 1.0, False, bytes(KEY_SIZE), b"a" * 50, b"b" * 50, b"c" * (MOST_PARTS - 100)
    )
    assert answer.fits
    assert len(answer.to_bytes()) <= MOST
    assert not answer._replace(to_id=b"b" * 51).fits


@given(st.lists(REQUESTS, max_size=500))
def test_answered(some: list[Answered]) -> None:
    """What was answered is told in order and whole, in packets of a bounded size."""
    packets = list(answered_packets(some))
    assert all(len(each) <= MOST for each in packets)
    assert [one for packet in packets for one in read_answered(packet)] == some


@given(st.lists(NUMBERS, max_size=2000))
def test_returned_connections(numbers: list[int]) -> None:
    """So are the connections that are given back."""
    packets = list(returned_packets(numbers))
    assert all(len(each) <= MOST for each in packets)
    assert [number for packet in packets for number in read_returned(packet)] == numbers


@given(NUMBERS, st.binary())
def test_numbers(number: int, data: bytes) -> None:
    """A packet about one connection says which, and has the bytes that belong to it."""
    assert read_number(number_packet(UNSENT, number, data)) == (number, data)
