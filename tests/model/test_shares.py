"""Who has how much, and who has too much."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.shares import Shares

CLIENTS = st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.9.1", "198.51.100.1", "user a", "unix"])


def shares(*clients: str) -> Shares:
    made = Shares()
    for client in clients:
        made.add([client])
    return made


def test_together() -> None:
    """What several have together counts for each, and once for the network of both."""
    made = Shares()
    made.add(["192.0.2.1", "192.0.2.2"])
    made.add(["192.0.2.1"])
    assert made.of("192.0.2.1") == (2, 2, 2)
    assert made.of("192.0.2.2") == (2, 2, 1)
    assert made.of("192.0.9.9") == (2, 0, 0)


def test_who_owes() -> None:
    """One owes another when it would still have no less, one thing having changed hands."""
    made = shares("a", "a", "b", "192.0.2.1", "192.0.2.2", "192.0.9.1")
    assert made.owes("a", "c")
    assert not made.owes("b", "c")
    assert not made.owes("a", "b")
    assert made.owes("192.0.9.1", "c")  # for the network's sake
    assert not made.owes("192.0.2.1", "192.0.9.1")
    assert made.owes("192.0.2.1", "192.0.7.1")
    assert not made.owes("a", "a")


@given(st.lists(st.lists(CLIENTS, min_size=1, max_size=3), max_size=10))
def test_nothing_is_left(things: list[list[str]]) -> None:
    """What was added and removed, in whatever order, counts for nobody."""
    made = Shares()
    for clients in things:
        made.add(clients)
    counts = Counter(client for clients in things for client in set(clients))
    assert all(made.of(client)[-1] == count for client, count in counts.items())
    for clients in things[::2] + things[1::2]:
        made.remove(clients)
    assert not [client for clients in things for client in clients if client in made]
