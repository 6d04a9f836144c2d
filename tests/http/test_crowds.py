"""Which client has the most connections, and which network the most endless answers."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nixery.http.crowds import Crowds, EndlessAnswers


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5))))
def test_largest(steps: list[tuple[str, int]]) -> None:
    """The largest is found whatever the sizes were before: of several, the one that has had that
    size for longest."""
    crowds, sizes = Crowds(), dict[str, int]()
    for client, size in steps:
        crowds.put(client, size)
        if sizes.get(client, 0) != size:
            sizes.pop(client, None)
            sizes.update({client: size} if size else {})
        assert crowds.largest() == max(sizes, key=lambda each: sizes[each], default=None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=100))
def test_the_network_with_the_most(steps: list[tuple[bool, int]]) -> None:
    """Whatever begins and ends, the oldest of the network with the most is found."""
    endless = EndlessAnswers[int]()
    kept: dict[int, str] = {}
    for begins, number in steps:
        if begins:
            endless.add(number, f"{number % 4}")
            kept.setdefault(number, f"{number % 4}")
        else:
            endless.remove(number)
            kept.pop(number, None)
        counts = Counter(kept.values())
        found = list(endless.of_the_most())
        assert len(endless) == len(kept)
        assert len(found) == max(counts.values(), default=0)
        assert found == [n for n, network in kept.items() if network == kept[found[0]]]
