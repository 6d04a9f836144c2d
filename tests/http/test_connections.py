"""Who gets in, and who makes room."""

from collections import Counter
from random import Random

import attrs
from hypothesis import given
from hypothesis import strategies as st

from nixery.http.bounds import RunningRequests
from nixery.http.connections import Connections


@attrs.define(eq=False)
class Fake:
    """A connection that notes what becomes of it."""

    closed: bool = False
    sends: bool = False

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
        connections.works(each)
    for each in (second, third, first):
        connections.rests(each)
    connections.rests(second)  # a byte of a request is no answer
    assert connections.admit(fourth, "b") is None
    assert [each.closed for each in (first, second, third)] == [False, True, False]
    assert connections.admit(fifth, None) is None
    assert [each.closed for each in (first, second, third)] == [False, True, True]
    assert connections.open == 3


def test_what_was_of_use_makes_room() -> None:
    """A connection that has rested makes room before one whose request may be on its way."""
    connections = Connections(3, 3, Counter())
    fresh, rested, third = Fake(), Fake(), Fake()
    for each in (fresh, rested, third):
        assert connections.admit(each, "a") is None
    connections.works(rested)
    connections.rests(rested)
    assert connections.admit(Fake(), "b") is None
    assert [each.closed for each in (fresh, rested, third)] == [False, True, False]


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
        st.sampled_from(["admit", "rests", "rested_again", "works", "never_ends", "gone"]),
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
    streams: set[int] = set()
    for step, number, owner in steps:
        before = {n for n, fake in fakes.items() if fake.closed}
        if step == "admit":
            newcomer = Fake()
            if connections.admit(newcomer, owner) is None and number not in owners:
                fakes[number], owners[number] = newcomer, owner
            else:
                connections.gone(newcomer)
        elif step == "rested_again" and number in busy:
            pass  # it is said of what rests
        elif number in fakes:
            client = [owner or "unix"] if step == "never_ends" else []
            getattr(connections, step)(fakes[number], *client)
            if step == "never_ends":
                # It is said of what is being answered.
                connections.works(fakes[number])
                busy, streams = busy | {number}, streams | {number}
            else:
                streams = streams if step == "works" else streams - {number}
                busy = busy | {number} if step == "works" else busy - {number}
            if step == "gone":
                del fakes[number], owners[number]
        closed = {n for n, fake in fakes.items() if fake.closed} - before
        assert not closed & (busy - streams)
        streams, busy = streams - closed, busy - closed
        for each in closed:
            del fakes[each], owners[each]
        assert connections.open == len(fakes) <= 4
        assert connections.streams == len(streams)
        assert connections.idle == len(fakes.keys() - busy)
        assert max(Counter(o for o in owners.values() if o).values(), default=0) <= 2


def streaming(connections: Connections, client: str) -> Fake:
    fake = Fake()
    assert connections.admit(fake, client) is None
    connections.works(fake)
    connections.never_ends(fake, client)
    return fake


def test_streams_make_room() -> None:
    """For a newcomer, an endless answer is cut: the oldest of the network that has the most."""
    refused: Counter[str] = Counter()
    connections = Connections(6, 6, refused)
    other = streaming(connections, "198.51.100.1")
    crowd = [streaming(connections, f"192.0.2.{number}") for number in range(5)]
    assert connections.admit(Fake(), "203.0.113.1") is None
    assert (other.closed, [each.closed for each in crowd]) == (False, [True] + [False] * 4)
    assert streaming(connections, "192.0.2.9") not in crowd
    assert [each.closed for each in crowd] == [True, True, False, False, False]
    assert refused == {"stream_for_others": 2}


def test_few_streams_stay() -> None:
    """As long as endless answers are few, those make room on which a crowd only waits; when there
    are no more of them, endless answers do, before others are cut."""
    refused: Counter[str] = Counter()
    connections = Connections(24, 24, refused)
    stream = streaming(connections, "a")
    crowd = [Fake() for _ in range(23)]
    for each in crowd:
        assert connections.admit(each, "b") is None
    for each in crowd[2:]:
        connections.works(each)
    for number in range(4):
        assert not stream.closed or number > 2
        newcomer = Fake()
        assert connections.admit(newcomer, f"c{number}") is None
        connections.works(newcomer)
    assert [each.closed for each in crowd] == [True] * 3 + [False] * 20
    assert refused == {"idle_for_others": 2, "stream_for_others": 1, "answer_for_others": 1}


def test_a_clients_own_streams_make_room() -> None:
    """A client that has too many connections loses an endless answer of its own first."""
    connections = Connections(10, 2, Counter())
    other, mine = streaming(connections, "b"), streaming(connections, "a")
    idle = Fake()
    assert connections.admit(idle, "a") is None
    assert connections.admit(Fake(), "a") is None
    assert (other.closed, mine.closed, idle.closed) == (False, True, False)


def test_the_reserve() -> None:
    """When all are at work and nobody has many, newcomers get in on the reserve, a network only to
    a part of it; it is free again when they are gone."""
    connections = Connections(20, 20, Counter(), reserve=8)
    busy = [Fake() for _ in range(12)]
    for number, each in enumerate(busy):
        assert connections.admit(each, f"198.51.100.{number % 6}") is None
        connections.works(each)
    assert not any(map(connections.is_reserved, busy))
    known = [Fake() for _ in range(3)]
    for number, each in enumerate(known):
        admitted = connections.admit(each, f"192.0.2.{number}")
        assert admitted == (None if number < 2 else "connections")
        connections.works(each)
    others = [Fake() for _ in range(6)]
    for each in others:
        assert connections.admit(each, None) is None
        assert connections.is_reserved(each)
        connections.works(each)
    assert connections.admit(Fake(), None) == "connections"
    connections.gone(known[0])
    assert connections.admit(Fake(), "192.0.2.9") is None
    assert connections.open == 20


def test_the_crowd_makes_room() -> None:
    """A connection on which no request has come yet is not closed for a client that has many,
    however new those are."""
    connections = Connections(10, 10, Counter())
    pull, crowd = Fake(), [Fake() for _ in range(9)]
    assert connections.admit(pull, "pull") is None
    for number, each in enumerate(crowd):
        assert connections.admit(each, f"192.0.2.{number % 3}") is None
    newcomers = [Fake() for _ in range(20)]
    for number, each in enumerate(newcomers):
        assert connections.admit(each, f"192.0.2.{number % 3}") is None
    assert not pull.closed
    assert sum(each.closed for each in (*crowd, *newcomers)) == 20


def test_the_crowd_is_refused_at_once() -> None:
    """Where there is no room, a client with half of its share or more is turned away before
    anything is made for it, unless it has a connection to give that has rested."""
    refused: Counter[str] = Counter()
    connections = Connections(10, 10, refused)
    crowd = [Fake() for _ in range(9)]
    for each in crowd:
        assert connections.admit(each, "192.0.2.1") is None
    assert not connections.refuses("192.0.2.1")  # there is room
    assert connections.admit(Fake(), "192.0.2.2") is None
    assert connections.refuses("192.0.2.1")
    assert not connections.refuses("192.0.2.2")
    assert not connections.refuses("192.0.2.3")
    assert not connections.refuses(None)
    for each in crowd:
        connections.works(each)
    assert connections.refuses("192.0.2.1")
    connections.rests(crowd[0])
    assert not connections.refuses("192.0.2.1")
    assert refused == {"connections": 2}


def test_idle_connections_of_others_come_first() -> None:
    """Many machines behind one address, all of them at work, are not turned away as long as a
    client with more connections has some that rest."""
    connections = Connections(40, 40, Counter())
    idle = [Fake() for _ in range(24)]
    for each in idle:
        assert connections.admit(each, "192.0.2.1") is None
        connections.works(each)
    for _ in range(16):
        each = Fake()
        assert connections.admit(each, "192.0.2.2") is None
        connections.works(each)
    assert connections.refuses("192.0.2.2")
    connections.rests(idle[0])
    assert not connections.refuses("192.0.2.2")
    newcomer = Fake()
    assert connections.admit(newcomer, "192.0.2.2") is None
    connections.works(newcomer)
    assert idle[0].closed
    assert connections.refuses("192.0.2.2")


def test_who_has_less_keeps_it() -> None:
    """A client with many connections, all of them at work, takes no idle one from a client that
    has few, and neither does that lose its own as long as there is a reserve."""
    connections = Connections(48, 48, Counter(), reserve=8)
    pull = Fake()
    assert connections.admit(pull, "192.0.2.2") is None
    for _ in range(41):
        each = Fake()
        assert connections.admit(each, "192.0.2.1") is None
        connections.works(each)
    assert connections.admit(Fake(), "192.0.2.1") == "connections"
    assert connections.admit(Fake(), "192.0.2.2") is None
    assert not pull.closed


def test_one_client_alone_is_not_refused() -> None:
    """A client that has all connections, and nobody else some, gives of its own."""
    connections = Connections(3, 3, Counter())
    for _ in range(3):
        assert connections.admit(Fake(), "192.0.2.1") is None
    assert not connections.refuses("192.0.2.1")


def test_an_answer_to_a_crowd_is_cut() -> None:
    """Where all are at work, an answer to the client with the most is cut, the one that has taken
    longest, for a client that has far fewer, and for nobody else."""
    refused: Counter[str] = Counter()
    connections = Connections(48, 48, refused, reserve=8)
    crowd = [Fake() for _ in range(40)]
    for number, each in enumerate(crowd):
        assert connections.admit(each, "192.0.2.1" if number % 4 else "192.0.2.2") is None
        connections.works(each)
    for _ in range(5):
        pull = Fake()
        assert connections.admit(pull, "192.0.2.3") is None
        assert not connections.is_reserved(pull)
        connections.works(pull)
    assert [number for number, each in enumerate(crowd) if each.closed] == [1, 2, 3, 5, 6]
    assert refused == {"answer_for_others": 5}
    for _ in range(3):
        newcomer = Fake()
        if connections.admit(newcomer, "192.0.2.1") is None:
            assert connections.is_reserved(newcomer)
            connections.works(newcomer)
    assert refused == {"answer_for_others": 5, "connections": 1}


@given(st.integers(2, 60), st.integers(5, 25), st.randoms(use_true_random=False))
def test_a_newcomer_finds_a_place(clients: int, each: int, random: Random) -> None:
    """Whatever a crowd keeps busy, and whoever of it came first, a client that comes late has two
    connections to wait on as long as all of the crowd have a few on average."""
    connections = Connections(clients * 5, clients * 5, Counter(), clients * 5 // 16)
    addresses = [f"192.0.2.{number}" for number in range(clients) for _ in range(each)]
    for address in (*addresses, *random.sample(addresses, len(addresses))):
        member = Fake()
        if not connections.refuses(address) and connections.admit(member, address) is None:
            connections.works(member)
    for _ in range(2):
        newcomer = Fake()
        assert not connections.refuses("192.0.2.200")
        assert connections.admit(newcomer, "192.0.2.200") is None
        assert not newcomer.closed


def test_a_few_fresh_connections_stay() -> None:
    """Whoever has few connections does not lose one whose request is on its way to a client that
    has fewer, as those have who found no place among a crowd."""
    connections = Connections(40, 40, Counter(), reserve=4)
    for _ in range(34):
        each = Fake()
        assert connections.admit(each, "192.0.2.1") is None
        connections.works(each)
    pull = [Fake(), Fake()]
    for each in pull:
        assert connections.admit(each, "192.0.2.2") is None
    for number in range(3, 9):
        newcomer = Fake()
        assert connections.admit(newcomer, f"192.0.2.{number}") is None
        connections.works(newcomer)
    assert not any(each.closed for each in pull)


def test_networks_are_bounded() -> None:
    """Who has a /48 of IPv6 has four times as much as a client, whatever addresses it uses."""
    connections, requests = Connections(100, 2, Counter()), RunningRequests(2, Counter())
    admitted = {"connections": 0, "requests": 0}
    for number in range(32):
        client, newcomer = f"2001:db8:0:{number:x}00::/64", Fake()
        for _ in range(2):
            admitted["requests"] += requests.begin(client)
        if connections.admit(newcomer, client) is None:
            connections.works(newcomer)
            admitted["connections"] += 1
    assert admitted == {"connections": 8, "requests": 8}
    assert connections.admit(Fake(), "2001:db8:1::/64") is None
    assert requests.begin("2001:db8:1::/64")


def test_a_retirement_that_takes_long() -> None:
    """Those to whom no answer has begun to leave are waited for no longer after a while."""
    connections = Connections(9, 9, Counter())
    waiting, sending = Fake(), Fake(sends=True)
    for each in (waiting, sending):
        assert connections.admit(each, "a") is None
        connections.works(each)
    connections.retire()
    retired, closed = connections.answered(), connections.closed()
    connections.forsake()
    assert not retired.called
    connections.gone(sending)
    assert (retired.called, closed.called) == (True, False)
    connections.gone(waiting)
    assert closed.called
