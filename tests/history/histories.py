"""Histories in folders of tests, and listeners that note what they are told."""

import json
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nixery.history.blocks import Block
from nixery.history.event_buffer import BufferBounds
from nixery.history.history import History
from nixery.history.record import Record
from nixery.history.subscription import Subscription
from nixery.model.events import LogLine
from nixery.model.limits import HistoryLimits

reactor: Any = _reactor

SMALL = BufferBounds(events=50, bytes=4096, block=512, delay=0.01)
"""BufferBounds that are soon reached."""


def moment(seconds: float = 0.01) -> "Deferred[None]":
    """A short wait."""
    return deferLater(reactor, seconds, lambda: None)


async def open_history(
    folder: Path, bounds: BufferBounds = SMALL, limits: HistoryLimits | None = None
) -> History:
    """A history that has started, as a daemon would have it, and has read all that is there."""
    history = History(reactor, str(folder / "history"), limits, bounds)
    await history.start()
    await history.loaded()
    return history


def begin(history: History, name: str = "git") -> Record:
    """A build that runs."""
    return history.begin("0" * 64, name, "latest")


def print_lines(record: Record, count: int, start: int = 0) -> None:
    """Have a derivation of a build print numbered lines."""
    for number in range(start, start + count):
        record.emit(LogLine("x-1", f"line {number}"))


async def follow(history: History, id: str, after: int = 0) -> Subscription:
    """Follow a build that is known."""
    subscription = await history.follow(id, after)
    assert subscription is not None
    return subscription


async def details(history: History, id: str) -> dict[str, Any]:
    """The summary of a build that is known."""
    head = history.head(id)
    assert head is not None
    return (await history.in_full(head))[1]


@attrs.define
class Listener:
    """Notes the events of a subscription.

    :ivar pause: seconds between one block and the next.
    """

    subscription: Subscription
    pause: float = 0
    blocks: list[Block] = attrs.Factory(list)

    async def listen(self) -> "Listener":
        """Listen until the build has ended."""
        while (block := await self.subscription.next()) is not None:
            self.blocks.append(block)
            if self.pause:
                await moment(self.pause)
        return self

    def start(self) -> "Deferred[Listener]":
        """Listen while other things happen."""
        return Deferred.fromCoroutine(self.listen())

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, as documents."""
        return [json.loads(line) for block in self.blocks for line in block.data.splitlines()]

    @property
    def ids(self) -> list[int]:
        """The numbers of the events."""
        return [event["id"] for event in self.events]

    @property
    def lines(self) -> list[str]:
        """What derivations printed."""
        return [event["line"] for event in self.events if event["type"] == "log-line"]


async def read(history: History, id: str, after: int = 0) -> Listener:
    """All events of a build up to its end."""
    return await Listener(await follow(history, id, after)).listen()
