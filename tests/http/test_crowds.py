"""Which client has the most connections."""

from hypothesis import given
from hypothesis import strategies as st

from nixery.http.crowds import Crowds


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
