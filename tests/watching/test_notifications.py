"""Notifications, as a receiver gets them."""

import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.web.client import Agent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from nixery.history.summary import BuildHead
from nixery.watching.notifications import MOST, PAUSES, Notifications
from tests.waiting import until

reactor: Any = _reactor

SECRET = "a-secret-of-the-receiver"


class Receiver(Resource):
    """Answers with some statuses, one after the other, and then with 204.

    :ivar silent: whether it answers nothing.
    :ivar endless: whether its answer has a body without an end.
    :ivar left: how many clients have closed the connection before that end.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.silent = self.endless = False
        self.left = 0

    def render_POST(self, request: Request) -> Any:
        """Take a notification."""
        fields = request.requestHeaders.getAllRawHeaders()
        headers = {name.decode().lower(): values[0].decode() for name, values in fields}
        assert request.content is not None
        self.received.append((headers, request.content.read()))
        if self.silent:
            return NOT_DONE_YET
        request.setResponseCode(self.statuses.pop(0) if self.statuses else 204)
        if self.endless:
            request.setResponseCode(200)
            request.notifyFinish().addErrback(self._leaves)
            request.write(b"some of it")
            return NOT_DONE_YET
        return b""

    def _leaves(self, _: object) -> None:
        self.left += 1


@attrs.define
class Sent:
    """Notifications to a receiver.

    :ivar clock: of the pauses.
    """

    notifications: Notifications
    receiver: Receiver
    clock: Clock

    def tell(self, number: int = 1) -> None:
        head = BuildHead(f"{number:04}", "0" * 64, "git", "latest", 1e9)
        self.notifications.built(attrs.evolve(head, state="done", ended=1e9, digest="sha256:1"))

    async def paused(self, seconds: float) -> None:
        """Wait until an attempt has failed, and the next is to follow after a while."""
        due = [self.clock.seconds() + seconds]
        await until(lambda: [call.getTime() for call in self.clock.getDelayedCalls()] == due)

    async def outcomes(self, **expected: int) -> None:
        await until(lambda: self.notifications.outcomes == expected)


@asynccontextmanager
async def sending(secret: str | None = None, path: str = "hook") -> AsyncIterator[Sent]:
    receiver, clock = Receiver(), Clock()
    port = reactor.listenTCP(0, Site(receiver), interface="127.0.0.1")
    url = f"http://user:hidden@127.0.0.1:{port.getHost().port}/{path}"
    key = None if secret is None else lambda: secret
    notifications = Notifications(clock, Agent(reactor), url, key)  # type: ignore[arg-type]
    try:
        yield Sent(notifications, receiver, clock)
    finally:
        await notifications.stop()
        await maybeDeferred(port.stopListening)


@pytest_twisted.ensureDeferred
async def test_what_is_sent() -> None:
    """Each is a CloudEvent, signed as GitHub signs its own, in order."""
    async with sending(SECRET) as sent:
        for number in range(3):
            sent.tell(number)
        await sent.outcomes(sent=3)
        assert [json.loads(body)["id"] for _, body in sent.receiver.received] == [
            *("0000", "0001", "0002")
        ]
        headers, body = sent.receiver.received[0]
        event = json.loads(body)
        assert (event["specversion"], event["type"]) == ("1.0", "nixery.image.built")
        assert (event["subject"], event["time"]) == ("git:latest", "2001-09-09T01:46:40+00:00")
        assert event["source"]
        assert event["data"] == {
            **{"id": "0000", "name": "git", "tag": "latest", "started": 1e9, "ended": 1e9},
            **{"state": "done", "digest": "sha256:1", "error": None},
        }
        credentials = b64encode(b"user:hidden").decode()
        assert headers["authorization"] == f"Basic {credentials}"
        assert headers["content-type"] == "application/cloudevents+json"
        signature = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={signature}"


@pytest_twisted.ensureDeferred
async def test_tried_again() -> None:
    """What fails for now is tried again, the later the more often it failed, before others; that is
    told once, without the address's password."""
    async with sending() as sent:
        sent.receiver.statuses = [503, 429, 500]
        with capturedLogs() as logged:
            for number in range(2):
                sent.tell(number)
            for tries, pause in enumerate(PAUSES[:3], 1):
                await sent.paused(pause)
                assert len(sent.receiver.received) == tries
                assert sent.notifications.outcomes == {}
                sent.clock.advance(pause)
            await sent.outcomes(sent=2)
        ids = [json.loads(body)["id"] for _, body in sent.receiver.received]
        assert ids == ["0000"] * 4 + ["0001"]
        (told,) = [formatEvent(each) for each in logged if "does not take" in formatEvent(each)]
        assert "503" in told
        assert "hidden" not in told


@pytest_twisted.ensureDeferred
async def test_refused() -> None:
    """What the receiver refuses for good is not sent again, and others are sent."""
    async with sending() as sent:
        sent.receiver.statuses = [404, 301]
        for number in range(3):
            sent.tell(number)
        await sent.outcomes(refused=2, sent=1)
        assert len(sent.receiver.received) == 3
        assert "x-hub-signature-256" not in sent.receiver.received[0][0]


@pytest_twisted.ensureDeferred
async def test_given_up() -> None:
    """After some attempts, what can't be sent is dropped."""
    async with sending() as sent:
        sent.receiver.statuses = [500] * (len(PAUSES) + 1)
        sent.tell()
        for pause in PAUSES:
            await sent.paused(pause)
            sent.clock.advance(pause)
        await sent.outcomes(dropped=1)


@pytest_twisted.ensureDeferred
async def test_bounded() -> None:
    """While the receiver is away, the latest wait for it, and older ones are dropped; stopping
    waits for nothing."""
    async with sending() as sent:
        sent.receiver.silent = True
        for number in range(MOST + 7):
            sent.tell(number)
        assert sent.notifications.outcomes == {"dropped": 7}
        await until(lambda: bool(sent.receiver.received))
        await sent.notifications.stop()
        sent.tell()
        assert sent.notifications.outcomes == {"dropped": 7}


@pytest_twisted.ensureDeferred
async def test_each_is_counted_once() -> None:
    """The one that is being sent is none of those that are dropped for newer ones."""
    async with sending() as sent:
        sent.receiver.statuses = [503]
        sent.tell(0)
        await sent.paused(PAUSES[0])
        for number in range(1, MOST + 3):
            sent.tell(number)
        sent.clock.advance(PAUSES[0])
        await sent.outcomes(dropped=3, sent=MOST)
        ids = [json.loads(body)["id"] for _, body in sent.receiver.received]
        assert ids[:3] == ["0000", "0000", "0004"]


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_hangs() -> None:
    """A receiver that does not answer is given up for now, and tried again."""
    async with sending() as sent:
        sent.receiver.silent = True
        sent.tell()
        await until(lambda: bool(sent.receiver.received))
        sent.clock.advance(10)
        await sent.paused(PAUSES[0])
        sent.receiver.silent = False
        sent.clock.advance(PAUSES[0])
        await sent.outcomes(sent=1)


@pytest_twisted.ensureDeferred
async def test_an_answer_without_an_end() -> None:
    """The status tells what became of a notification: its answer's body is not waited for, nor is
    the connection kept on which it would come."""
    async with sending() as sent:
        sent.receiver.endless = True
        sent.tell()
        await sent.outcomes(sent=1)
        await until(lambda: sent.receiver.left == 1)


@pytest_twisted.ensureDeferred
async def test_a_build_that_failed() -> None:
    """Of a build that failed, the cause is told, and nothing that only the log has."""
    async with sending() as sent:
        head = BuildHead("1", "0" * 64, "git", "latest", 1e9, "failed", error="no such package")
        sent.notifications.built(head)
        await sent.outcomes(sent=1)
    event = json.loads(sent.receiver.received[0][1])
    assert (event["type"], event["data"]["error"]) == ("nixery.image.failed", "no such package")
    assert "key" not in event["data"]
