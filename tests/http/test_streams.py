"""Endless answers by network."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nixery.http.streams import Streams


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=100))
def test_the_network_with_the_most(steps: list[tuple[bool, int]]) -> None:
    """Whatever begins and ends, the oldest of the network with the most is found."""
    streams = Streams[int]()
    kept: dict[int, str] = {}
    for begins, number in steps:
        if begins:
            streams.add(number, f"{number % 4}")
            kept.setdefault(number, f"{number % 4}")
        else:
            streams.remove(number)
            kept.pop(number, None)
        counts = Counter(kept.values())
        found = list(streams.of_the_most())
        assert len(streams) == len(kept)
        assert len(found) == max(counts.values(), default=0)
        assert found == [n for n, network in kept.items() if network == kept[found[0]]]
