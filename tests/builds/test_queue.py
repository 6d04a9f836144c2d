"""Turns for builds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from nixery.builds.queue import GRACE, PATIENCE, SETTLE, BuildQueue
from nixery.builds.ticket import Ticket
from nixery.model.events import Blocked, BuildStarted, BuildStopped, Unblocked
from nixery.model.service_errors import QueueFull


class Crowd:
    """Clients of a queue; remembers whose turn came in which order, and who was sent away."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.clock = Clock()
        self.queue = BuildQueue(self.clock, at_once, waiting)
        self.turns: list[str] = []
        self.displaced: list[str] = []
        self.told: list[str] = []
        self.running: list[Ticket] = []
        self.stubborn = False
        """Whether what gives way takes its time."""

    def ask(self, client: str, *others: str) -> Ticket:
        ticket = self.queue.enter(client)
        for other in others:
            self.queue.join(ticket, other)
        self._await(ticket, client)
        return ticket

    def end(self, count: int = 1) -> None:
        for _ in range(count):
            self.finish(self.running[0])

    def finish(self, ticket: Ticket) -> None:
        self.running.remove(ticket)
        self.queue.end(ticket)

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for a build any more, and is not about to come back."""
        for client, count in list(ticket.clients.items()):
            for _ in range(count):
                self.queue.part(ticket, client)
        self.clock.advance(GRACE)

    def stop(self, ticket: Ticket) -> None:
        """A build that was told to give way is stopped."""
        self.running.remove(ticket)
        self.queue.again(ticket)
        self._await(ticket, next(iter(ticket.clients)))

    def _await(self, ticket: Ticket, client: str) -> None:
        def begin(_: None) -> None:
            self.turns.append(client)
            self.running.append(ticket)
            ticket.give_way = give_way

        def give_way() -> None:
            if not self.stubborn:
                self.stop(ticket)

        ticket.turn.addCallbacks(begin, self._away, errbackArgs=(client,))

    def _away(self, failure: Failure, client: str) -> None:
        failure.trap(QueueFull, CancelledError)
        self.displaced.append(client)
        self.told.append(failure.getErrorMessage())


def test_so_many_at_once() -> None:
    """As many have their turn as may; the next one's comes when one of these ends."""
    crowd = Crowd(2, 10)
    for client in "abc":
        crowd.ask(client)
    assert (crowd.turns, crowd.queue.running, crowd.queue.waiting) == (["a", "b"], 2, 1)
    crowd.end()
    assert (crowd.turns, crowd.queue.running, crowd.queue.waiting) == (["a", "b", "c"], 2, 0)
    crowd.end(2)
    assert (crowd.queue.running, crowd.queue.waiting) == (0, 0)


def test_clients_in_turn() -> None:
    """Who asks for much does not keep those waiting who ask for little; each one's own come in
    order."""
    crowd = Crowd(1, 100)
    for _ in range(5):
        crowd.ask("greedy")
    crowd.ask("modest")
    crowd.ask("frugal")
    crowd.end(6)
    assert crowd.turns == ["greedy", "greedy", "modest", "frugal", "greedy", "greedy", "greedy"]


@pytest.mark.parametrize(
    "network",
    [
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
        ["192.0.2.1", "192.0.9.1", "192.0.200.1"],
        ["2001:db8:0:1::/64", "2001:db8:0:2::/64", "2001:db8:0:3::/64"],
        ["2001:db8:0:100::/64", "2001:db8:0:200::/64", "2001:db8:0:ff00::/64"],
    ],
)
def test_networks_in_turn(network: list[str]) -> None:
    """Who has many addresses of a network does not come before who has one."""
    crowd = Crowd(1, 100)
    for client in (*network, "198.51.100.7", "2001:db9::/64", "user alice", "unix"):
        crowd.ask(client)
    crowd.end(6)
    others = ["198.51.100.7", "2001:db9::/64", "user alice", "unix"]
    assert crowd.turns == [*network[:2], *others, network[2]]


def test_the_fewest_running_first() -> None:
    """A turn goes to who has the fewest builds running, in whatever order they came."""
    crowd = Crowd(3, 100)
    crowd.stubborn = True
    for client in ("a", "a", "b", "a", "b", "c"):
        crowd.ask(client)
    assert crowd.turns == ["a", "a", "b"]
    crowd.end()
    assert crowd.turns[3:] == ["c"]
    crowd.finish(crowd.running[1])
    assert crowd.turns[4:] == ["b"]


def test_a_build_of_several_clients() -> None:
    """A build that another client asks for too comes when the turn of either does."""
    crowd = Crowd(1, 100)
    first = crowd.ask("greedy")
    assert first.turn.called
    for _ in range(3):
        crowd.ask("greedy")
    crowd.queue.join(last := crowd.ask("greedy"), "modest")
    crowd.end(2)
    assert last.turn.called
    crowd.end(2)
    assert (crowd.queue.waiting, crowd.queue.running) == (0, 1)


def test_a_full_queue() -> None:
    """Beyond the most that may wait, who asks is sent away and nobody else is hurt."""
    crowd = Crowd(1, 2)
    for _ in range(3):
        crowd.ask("a")
    with pytest.raises(QueueFull) as caught:
        crowd.ask("a")
    assert str(caught.value).startswith("2 images are waiting")
    assert crowd.displaced == []
    crowd.end(3)
    assert crowd.turns == ["a", "a", "a"]


def test_room_for_others() -> None:
    """In a full queue, a client with fewer builds takes the newest place of the greediest."""
    crowd = Crowd(1, 4)
    for _ in range(5):
        newest = crowd.ask("greedy")
    crowd.ask("modest")
    assert crowd.displaced == ["greedy"]
    assert crowd.told[0].startswith("4 images are waiting")
    assert newest.turn.called
    crowd.ask("modest")
    assert crowd.displaced == ["greedy", "greedy"]
    with pytest.raises(QueueFull):  # both have two
        crowd.ask("modest")


def test_room_in_a_queue_that_a_network_fills() -> None:
    """Who fills the queue from many addresses makes room for others, and in the same network for
    nobody who has as many."""
    crowd = Crowd(1, 100)
    for number in range(101):
        crowd.ask(f"192.0.{number % 4}.{number}")
    with pytest.raises(QueueFull):
        crowd.ask("192.0.1.200")
    for number in range(3):
        crowd.ask(f"198.51.{number}.1")
    assert crowd.displaced == ["192.0.0.100", "192.0.3.99", "192.0.2.98"]
    crowd.end()
    assert crowd.turns[1] == "192.0.0.4"
    crowd.end()
    assert crowd.turns[2] == "198.51.0.1"


def test_shared_builds_are_not_displaced() -> None:
    """A build that a modest client waits for as well keeps its place, whoever else does."""
    crowd = Crowd(1, 3)
    crowd.ask("greedy")
    for _ in range(2):
        crowd.ask("greedy")
    shared = crowd.ask("greedy", "modest")
    crowd.ask("frugal")
    assert not shared.turn.called
    assert crowd.displaced == ["greedy"]


def test_who_waits_for_nothing_leaves_first() -> None:
    """In a full queue, a build goes that nobody waits for; who was away for a moment stays."""
    crowd = Crowd(1, 2)
    crowd.ask("a")
    gone, away = crowd.ask("b"), crowd.ask("c")
    crowd.abandon(gone)
    crowd.queue.part(away, "c")
    crowd.ask("d")
    assert crowd.displaced == ["b"]
    with pytest.raises(QueueFull):
        crowd.ask("e")
    crowd.queue.join(away, "c")
    crowd.clock.advance(GRACE)
    with pytest.raises(QueueFull):
        crowd.ask("e")


def test_no_room_to_wait() -> None:
    """Where nothing may wait, what can't begin at once is sent away."""
    crowd = Crowd(1, 0)
    crowd.ask("a")
    with pytest.raises(QueueFull):
        crowd.ask("b")


def test_leaving() -> None:
    """A build that is given up while it waits leaves its place to others."""
    crowd = Crowd(1, 1)
    crowd.ask("a")
    leaving = crowd.ask("a", "b")
    leaving.turn.cancel()
    assert crowd.queue.waiting == 0
    crowd.ask("c")
    crowd.end()
    assert crowd.turns == ["a", "c"]


def test_abandoned_builds_give_way() -> None:
    """A build that nobody waits for goes on while there is room; then it waits, behind all that
    somebody waits for, until there is room again."""
    crowd = Crowd(2, 10)
    left, kept = crowd.ask("a"), crowd.ask("b")
    crowd.abandon(left)
    assert crowd.running == [left, kept]
    crowd.ask("c")
    crowd.ask("d")
    assert (crowd.turns, crowd.queue.gave_way) == (["a", "b", "c"], {"abandoned": 1})
    crowd.end()
    assert crowd.turns[3:] == ["d"]
    crowd.end()
    assert crowd.turns[4:] == ["a"]
    assert left.turn.called


def test_clients_that_come_back() -> None:
    """A build gives way only after it was left for a while; who is redirected is back by then."""
    crowd = Crowd(1, 10)
    build = crowd.ask("a")
    crowd.ask("b")
    for _ in range(5):
        crowd.queue.part(build, "a")
        crowd.clock.advance(GRACE * 0.9)
        crowd.queue.join(build, "a")
        crowd.clock.advance(GRACE)
    assert crowd.turns == ["a"]
    crowd.queue.part(build, "a")
    crowd.clock.advance(GRACE)
    assert crowd.turns == ["a", "b"]
    crowd.end()
    assert (crowd.turns[2:], crowd.queue.running) == (["a"], 1)


def test_nobody_gives_way_for_the_abandoned() -> None:
    """What nobody waits for takes a turn that is free, and no other."""
    crowd = Crowd(1, 10)
    crowd.ask("a")
    crowd.abandon(crowd.ask("b"))
    crowd.abandon(crowd.running[0])
    assert crowd.turns == ["a"]


def test_who_asks_for_an_abandoned_build() -> None:
    """When somebody asks for a build that waits, and that everybody had left, others give way."""
    crowd = Crowd(1, 10)
    running, waiting = crowd.ask("a"), crowd.ask("b")
    crowd.abandon(waiting)
    crowd.abandon(running)
    assert crowd.running == [running]
    crowd.queue.join(waiting, "c")
    assert crowd.running == [waiting]


def test_the_greedy_give_way() -> None:
    """Who runs two or more than another who waits gives up the newest, and keeps a share."""
    crowd = Crowd(3, 10)
    for _ in range(4):
        crowd.ask("192.0.2.1")
    crowd.ask("192.0.2.2")
    assert crowd.turns == ["192.0.2.1"] * 3 + ["192.0.2.2"]
    crowd.ask("198.51.100.1")
    assert crowd.turns[4:] == ["198.51.100.1"]
    assert crowd.queue.gave_way == {"share": 2}
    crowd.ask("203.0.113.1")
    crowd.ask("2001:db8::/64")
    # One network has two, and gives up one of them; then there are no more than the turns.
    assert crowd.turns[5:] == ["203.0.113.1"]


def test_shared_builds_are_not_stopped() -> None:
    """A build that a modest client waits for as well goes on."""
    crowd = Crowd(2, 10)
    own, shared = crowd.ask("greedy"), crowd.ask("greedy", "modest")
    crowd.ask("frugal")
    assert own not in crowd.running
    assert shared in crowd.running


def test_one_gives_way_at_a_time() -> None:
    """While a build is being stopped, no other is, and its turn is not given away yet."""
    crowd = Crowd(2, 10)
    crowd.stubborn = True
    first, second = crowd.ask("a"), crowd.ask("a")
    crowd.ask("b")
    assert (first.gives_way, second.gives_way) == (False, True)
    crowd.ask("c")
    assert (first.gives_way, crowd.turns) == (False, ["a", "a"])
    crowd.stop(second)
    assert crowd.turns == ["a", "a", "b"]


def test_one_derivation_takes_one_turn() -> None:
    """Builds that wait for another one's derivation give way to others, and wait with no turn
    until it is made."""
    crowd = Crowd(4, 10)
    queue = crowd.queue
    builds = [crowd.ask("a") for _ in range(4)]
    queue.note(builds[0], BuildStarted("slow-1.0"))
    for build in builds[1:]:
        queue.note(build, Blocked(("slow-1.0-dev",)))
    crowd.clock.advance(SETTLE)
    assert queue.running == 4
    for client in "bcd":
        crowd.ask(client)
    assert crowd.turns[4:] == ["b", "c", "d"]
    assert crowd.running[0] is builds[0]
    assert queue.gave_way == {"blocked": 3}
    crowd.finish(crowd.running[-1])
    crowd.clock.advance(3 * PATIENCE)
    assert (queue.running, queue.waiting) == (3, 3)
    queue.note(builds[0], BuildStarted("other"))
    queue.note(builds[0], BuildStopped("other"))
    assert (queue.running, queue.waiting) == (3, 3)
    queue.note(builds[0], BuildStopped("slow-1.0"))
    assert (queue.running, queue.waiting) == (4, 2)
    crowd.end(4)
    assert queue.waiting == 0


def test_the_maker_of_a_derivation_ends() -> None:
    """A build that waits for another's derivation goes on when that build ends, however it does."""
    crowd = Crowd(2, 10)
    maker, blocked = crowd.ask("a"), crowd.ask("a")
    crowd.queue.note(maker, BuildStarted("slow"))
    crowd.queue.note(blocked, Blocked(("slow",)))
    crowd.clock.advance(SETTLE)
    crowd.ask("b")
    crowd.finish(crowd.running[-1])
    assert (crowd.queue.running, crowd.queue.waiting) == (1, 1)
    crowd.finish(maker)
    assert (crowd.running, crowd.queue.waiting) == ([blocked], 0)


def test_last_words_of_what_gives_way() -> None:
    """What a build says while it is stopped, such as that it waits for nothing, does not give it
    the turn that it was to give to another."""
    crowd = Crowd(1, 10)
    crowd.stubborn = True
    build = crowd.ask("192.0.2.1")
    crowd.queue.note(build, Blocked(("x",)))
    crowd.ask("198.51.100.1")
    crowd.clock.advance(SETTLE)
    assert build.gives_way
    crowd.queue.note(build, Unblocked())
    crowd.stop(build)
    assert crowd.turns == ["192.0.2.1", "198.51.100.1"]


def test_short_waits_for_a_derivation() -> None:
    """A build that goes on in a moment keeps its turn."""
    crowd = Crowd(1, 10)
    build = crowd.ask("a")
    crowd.queue.note(build, Blocked(("x",)))
    crowd.ask("b")
    crowd.clock.advance(SETTLE / 2)
    crowd.queue.note(build, Unblocked())
    crowd.clock.advance(SETTLE)
    assert crowd.turns == ["a"]


def test_waiting_for_what_nobody_here_makes() -> None:
    """A build that waits for another program's derivation tries again, not all the time."""
    crowd = Crowd(1, 10)
    blocked = crowd.ask("a")
    crowd.queue.note(blocked, Blocked(("x",)))
    crowd.ask("b")
    crowd.clock.advance(SETTLE)
    crowd.end()
    assert (crowd.turns, crowd.queue.running) == (["a", "b"], 0)
    crowd.clock.advance(PATIENCE)
    assert crowd.turns == ["a", "b", "a"]


CLIENTS = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8:0:1::/64", "2001:db8:0:2::/64", "x"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(CLIENTS), st.sampled_from(CLIENTS)),
        st.tuples(
            st.sampled_from(["end", "abandon", "part", "join", "block", "stop", "cancel", "pass"]),
            st.integers(0, 9),
            st.sampled_from(CLIENTS),
        ),
    ),
    max_size=60,
)


class Steps:
    """Does whatever may happen to a queue."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self.crowd = Crowd(at_once, waiting)
        self.crowd.stubborn = True
        self.tickets: list[Ticket] = []
        self.asked = Counter[str]()

    def ask(self, client: str, other: str) -> None:
        try:
            self.tickets.append(self.crowd.ask(client, other))
            self.asked["builds"] += 1
        except QueueFull:
            self.asked["refused"] += 1

    def end(self, number: int, _: str) -> None:
        if running := self.crowd.running:
            self.crowd.finish(running[number % len(running)])

    def stop(self, number: int, _: str) -> None:
        for ticket in [ticket for ticket in self.crowd.running if ticket.gives_way]:
            self.crowd.stop(ticket)

    def abandon(self, number: int, _: str) -> None:
        if self.tickets:
            self.crowd.abandon(self.tickets[number % len(self.tickets)])

    def part(self, number: int, client: str) -> None:
        for ticket in self.tickets[number:][:1]:
            if ticket.clients[client]:
                self.crowd.queue.part(ticket, client)

    def join(self, number: int, client: str) -> None:
        for ticket in self.tickets[number:][:1]:
            self.crowd.queue.join(ticket, client)

    def block(self, number: int, _: str) -> None:
        for ticket in self.crowd.running[number:][:1]:
            self.crowd.queue.note(ticket, Blocked(("x",)))

    def cancel(self, number: int, _: str) -> None:
        for ticket in self.tickets[number:][:1]:
            if not ticket.turn.called:
                ticket.turn.cancel()

    def pass_(self, number: int, _: str) -> None:
        self.crowd.clock.advance(number)


@given(st.integers(1, 3), st.integers(0, 6), STEPS)
def test_nobody_is_lost(at_once: int, waiting: int, steps: list[tuple[str, int, str]]) -> None:
    """Whatever happens in which order, every build has its turn or is told that it has none, the
    bounds hold, a free turn is taken, and nothing is kept in the end."""
    driver = Steps(at_once, waiting)
    crowd, queue = driver.crowd, driver.crowd.queue
    for step, number, client in steps:
        getattr(driver, "pass_" if step == "pass" else step)(number, client)
        assert queue.running == len(crowd.running) <= at_once
        # Those that gave way have a place in any case.
        assert queue.waiting <= waiting + at_once
        waiting_tickets = [ticket for ticket in driver.tickets if not ticket.turn.called]
        ready = [ticket for ticket in waiting_tickets if ticket.held is None]
        assert not ready or queue.running == at_once
    crowd.clock.advance(PATIENCE)
    while queue.running:
        driver.stop(0, "")
        crowd.end()
        crowd.clock.advance(PATIENCE)
    assert queue.waiting == 0
    again = queue.gave_way.total()
    assert driver.asked["builds"] <= len(crowd.turns) + len(crowd.displaced)
    assert len(crowd.turns) + len(crowd.displaced) <= driver.asked["builds"] + again
    assert not crowd.clock.getDelayedCalls()
    assert not queue._since


@given(st.integers(1, 3), st.lists(st.sampled_from(CLIENTS), min_size=20, max_size=60))
def test_nobody_starves(at_once: int, others: list[str]) -> None:
    """However many others ask meanwhile, who waits has a turn after no more builds of others than
    there are networks."""
    crowd = Crowd(at_once, 1000)
    for client in others[:10]:
        crowd.ask(client)
    mine = crowd.ask("203.0.113.9")
    for client in others[10:]:
        if mine.turn.called:
            break
        crowd.ask(client)
        crowd.end()
    assert mine.turn.called
    assert len(crowd.turns) <= 10 + at_once + len(CLIENTS)


def test_behind_all_others() -> None:
    """What nobody waits for begins only when nothing else runs or waits, and one at a time."""
    crowd = Crowd(at_once=3, waiting=9)
    crowd.ask("a")
    first, second = crowd.queue.enter_behind("ahead"), crowd.queue.enter_behind("ahead")
    assert not first.turn.called
    crowd.ask("b")
    crowd.end()
    assert not first.turn.called
    crowd.end()
    assert (first.turn.called, second.turn.called) == (True, False)
    crowd.queue.end(first)
    assert second.turn.called


def test_what_is_behind_gives_way() -> None:
    """It gives its turn to any build that needs one, before one that clients have left."""
    crowd = Crowd(at_once=2, waiting=9)
    behind = crowd.queue.enter_behind("ahead")
    gave: list[str] = []
    behind.give_way = lambda: gave.append("ahead")
    crowd.ask("a")
    assert gave == []
    crowd.ask("b")
    assert gave == ["ahead"]
    crowd.queue.again(behind)
    assert crowd.turns == ["a", "b"]
    assert not behind.turn.called
    crowd.end(2)
    assert behind.turn.called


def test_somebody_waits_for_what_was_behind() -> None:
    """As soon as a client asks for it, it is a build as all others."""
    crowd = Crowd(at_once=1, waiting=9)
    crowd.ask("a")
    behind = crowd.queue.enter_behind("ahead")
    crowd.ask("b")
    crowd.queue.join(behind, "c")
    assert (behind.behind, behind.abandoned, behind.clients) == (False, False, {"c": 1})
    crowd.end(2)
    assert behind.turn.called


def test_no_place_behind() -> None:
    """It takes nobody's place in a full queue, and a client takes its place."""
    crowd = Crowd(at_once=1, waiting=1)
    crowd.ask("a")
    behind = crowd.queue.enter_behind("ahead")
    with pytest.raises(QueueFull):
        crowd.queue.enter_behind("ahead")
    failures: list[Failure] = []
    behind.turn.addErrback(failures.append)
    crowd.ask("b")
    assert [failure.type for failure in failures] == [QueueFull]
