"""How much clients may have: of requests at once, and of memory for what they have not taken."""

from collections import Counter
from contextlib import ExitStack

import pytest

from nixery.http.bounds import LEAST, MOST, TOO_MUCH_UNREAD, RunningRequests, Untaken
from nixery.model.service_errors import TooMuchUnread

MB = 1024 * 1024
REFUSED: Counter[str] = Counter()


def untaken(most: int = 32 * MB, most_each: int = 4 * MB) -> Untaken:
    REFUSED.clear()
    return Untaken(most, most_each, REFUSED)


@pytest.mark.parametrize("clients", [1, 3, 5000])
def test_pieces(clients: int) -> None:
    """Whoever asks, and however often, always gets a piece; the first get large ones, and all
    that are larger than the least one fit into the bound, that of each client too."""
    counted = untaken()
    with ExitStack() as stack:
        sizes = []
        for number in range(5000):
            sizes.append(counted.room(str(number % clients)))
            stack.enter_context(counted.piece(str(number % clients), sizes[-1]))
        assert sizes[0] == MOST
        assert sizes[-1] == LEAST
        assert counted.total == sum(size - LEAST for size in sizes)
        assert counted.total <= min(2 * 32 * MB, clients * 4 * MB)
    assert counted.total == 0
    assert counted.room("0") == MOST


def test_one_client_leaves_room_for_others() -> None:
    """However much other clients have not taken, another gets large pieces."""
    counted = untaken()
    with ExitStack() as stack:
        for _ in range(500):
            for number in range(60):
                greedy = f"greedy {number}"
                stack.enter_context(counted.piece(greedy, counted.room(greedy)))
        assert counted.room(greedy) == LEAST
        assert counted.room("other") >= 10 * LEAST


def test_wholes() -> None:
    """What is in memory as a whole is refused beyond the bound of its client, and beyond that of
    all; one at a time is for everybody, and what was taken makes room."""
    counted = untaken(10 * MB, 2 * MB)
    with ExitStack() as stack:
        stack.enter_context(counted.whole("a", 3 * MB))
        with pytest.raises(TooMuchUnread, match="try again"):
            counted.whole("a", 1)
        for client in "bcd":
            stack.enter_context(counted.whole(client, 2 * MB))
        with pytest.raises(TooMuchUnread):
            counted.whole("e", 2 * MB)
        assert REFUSED == {TOO_MUCH_UNREAD: 2}
        assert counted.room("a") == MOST
    with counted.whole("a", 10 * MB):
        assert counted.total == 10 * MB


def test_requests() -> None:
    """A client's requests are bounded, and what it may always ask counts as well."""
    refused: Counter[str] = Counter()
    requests = RunningRequests(2, refused)
    assert [requests.begin("a"), requests.begin("a", always=True)] == [True, True]
    assert [requests.begin("a"), requests.begin("b")] == [False, True]
    assert requests.begin("a", always=True)
    assert (requests.running, refused) == (4, {"client_requests": 1})
    for client in ("a", "a", "b"):
        requests.end(client)
    assert (requests.running, requests.begin("a")) == (1, True)
    assert not requests.has_room("a")
    assert requests.has_room("c")
    assert refused == {"client_requests": 1}
