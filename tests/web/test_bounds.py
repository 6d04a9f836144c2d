"""Who gets in, and who makes room."""

from collections import Counter

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nixery.web.bounds import Connections, Requests

REFUSED = {"connections", "client_connections"}


@attrs.define(eq=False)
class Fake:
    """A connection that notes what becomes of it."""

    closed: bool = False

    def make_room(self) -> None:
        assert not self.closed
        self.closed = True

    def retire(self) -> None:
        self.closed = True


def test_oldest_makes_room() -> None:
    """Who is idle longest makes room, counted from when its last answer left."""
    connections = Connections(3, 3, Counter())
    first, second, third, fourth, fifth = (Fake() for _ in range(5))
    for each in (first, second, third):
        assert connections.admit(each, "a") is None
    connections.works(first)
    connections.rests(first)
    connections.rests(second)  # a byte of a request is no answer
    assert connections.admit(fourth, "b") is None
    assert [each.closed for each in (first, second, third)] == [False, True, False]
    assert connections.admit(fifth, None) is None
    assert [each.closed for each in (first, second, third)] == [False, True, True]
    assert connections.open == 3


def test_nobody_makes_room_for_another_client() -> None:
    """A client that has too many connections loses his own, whoever is idle longer."""
    refused: Counter[str] = Counter()
    connections = Connections(10, 2, refused)
    other, *mine = (Fake() for _ in range(5))
    assert connections.admit(other, "other") is None
    for each in mine:
        assert connections.admit(each, "me") is None
    assert [each.closed for each in (other, *mine)] == [False, True, True, False, False]
    for each in mine[2:]:
        connections.works(each)
    assert connections.admit(Fake(), "me") == "client_connections"
    assert connections.admit(Fake(), "other") is None
    assert refused == {"idle_for_others": 2, "client_connections": 1}


def test_busy_connections_stay() -> None:
    """A newcomer is turned away when all others are being answered."""
    connections = Connections(2, 2, Counter())
    busy = [Fake(), Fake()]
    for each in busy:
        assert connections.admit(each, None) is None
        connections.works(each)
    assert connections.admit(Fake(), "a") == "connections"
    connections.gone(busy[0])
    assert connections.admit(Fake(), "a") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "rests", "works", "never_ends", "gone"]),
        st.integers(0, 9),
        st.sampled_from(["a", "b", None]),
    )
)


@given(STEPS)
def test_books_are_right(steps: list[tuple[str, int, str | None]]) -> None:
    """Whatever happens, no limit is passed, only the idle are closed, and all adds up."""
    connections = Connections(4, 2, Counter())
    fakes: dict[int, Fake] = {}
    owners: dict[int, str | None] = {}
    busy: set[int] = set()
    for step, number, owner in steps:
        before = {n for n, fake in fakes.items() if fake.closed}
        if step == "admit":
            newcomer = Fake()
            if connections.admit(newcomer, owner) is None and number not in owners:
                fakes[number], owners[number] = newcomer, owner
            else:
                connections.gone(newcomer)
        elif number in fakes:
            getattr(connections, step)(fakes[number])
            if step != "never_ends":
                busy = busy | {number} if step == "works" else busy - {number}
            if step == "gone":
                del fakes[number], owners[number]
        closed = {n for n, fake in fakes.items() if fake.closed} - before
        assert not closed & busy
        for each in closed:
            del fakes[each], owners[each]
        assert connections.open == len(fakes) <= 4
        assert connections.idle == len(fakes.keys() - busy)
        assert max(Counter(o for o in owners.values() if o).values(), default=0) <= 2


def test_requests() -> None:
    """A client's requests are bounded, and what he may always ask counts as well."""
    refused: Counter[str] = Counter()
    requests = Requests(2, refused)
    assert [requests.begin("a"), requests.begin("a", always=True)] == [True, True]
    assert [requests.begin("a"), requests.begin("b")] == [False, True]
    assert requests.begin("a", always=True)
    assert (requests.running, refused) == (4, {"client_requests": 1})
    for client in ("a", "a", "b"):
        requests.end(client)
    assert (requests.running, requests.begin("a")) == (1, True)
