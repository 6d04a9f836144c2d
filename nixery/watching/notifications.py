"""Notifications of builds, sent to where the operator wants them.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md,
in structured mode. They are signed as GitHub signs its own: many receivers know that.
"""

import hmac
import json
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import treq
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from nixery.history.summary import BuildHead
from nixery.model.reading import Reading
from nixery.reactor import IReactor
from nixery.storage.objects.http_bodies import abandon
from nixery.url_credentials import split_credentials

_TOLD = ("id", "name", "tag", "started", "ended", "state", "digest", "error")
"""Facts of a build that are told."""
MOST = 1000
"""Notifications that wait to be sent; the oldest go first."""
PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further attempt."""
_MEDIA_TYPE = "application/cloudevents+json"
_PATIENCE = 10.0
"""Seconds that an attempt may take."""
_PASSING = (408, 425, 429)
"""Statuses below 500 after which it may go well."""


class Notifications:
    """Sends notifications, one after the other, in order.

    :ivar outcomes: how many were ``sent``, ``refused`` by the receiver, or ``dropped``.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, agent: IAgent, url: str, secret: Callable[[], str] | None
    ) -> None:
        """
        :param secret: gives the secret that they are signed by, if they are.
        """
        self.outcomes: Counter[str] = Counter()
        self._reactor = reactor
        self._agent = agent
        self._url, self._auth = split_credentials(url)
        self._secret = secret
        self._source = f"urn:nixery:{socket.gethostname()}"
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._sending: Deferred[None] | None = None
        self._failing = False
        self._stopped = False

    def readings(self) -> list[Reading]:
        """The metrics of notifications."""
        text = "Notifications, by outcome."
        return [Reading("nixery_notifications", text, lambda: self.outcomes, "outcome", total=True)]

    def built(self, head: BuildHead) -> None:
        """Tell of a build that has ended, when those before it are told of."""
        if self._stopped:
            return
        event = {
            "specversion": "1.0",
            "id": head.id,
            "source": self._source,
            "type": f"nixery.image.{'built' if head.state == 'done' else 'failed'}",
            "subject": f"{head.name}:{head.tag}",
            "time": datetime.fromtimestamp(head.ended or head.started, UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": attrs.asdict(head, filter=attrs.filters.include(*_TOLD)),
        }
        self._waiting.append(event)
        if len(self._waiting) > MOST:
            del self._waiting[1]  # the first one is being sent
            self.outcomes["dropped"] += 1
        if self._sending is None:
            self._sending = Deferred.fromCoroutine(self._send_all())

    async def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        if self._sending is not None:
            self._sending.cancel()
        if self._waiting:
            self._log.info("{count} notifications were not sent", count=len(self._waiting))

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                event = self._waiting[0]
                outcome = await self._send(json.dumps(event).encode("ascii"))
                self.outcomes[outcome] += 1
                self._waiting.popleft()
        except CancelledError:
            pass
        finally:
            self._sending = None

    async def _send(self, body: bytes) -> str:
        """Send a notification, in as many attempts as it takes.

        :return: the outcome.
        """
        for pause in (*PAUSES, None):
            status, fault = await self._attempt(body)
            if 200 <= status < 300:
                self._failing = False
                return "sent"
            if not self._failing:  # once for all that fail after each other
                self._failing = True
                text = "{url} does not take notifications: {fault}"
                self._log.warn(text, url=self._url, fault=fault)
            if 0 < status < 500 and status not in _PASSING:
                return "refused"
            if pause is not None:
                await deferLater(self._reactor, pause, lambda: None)
        return "dropped"

    async def _attempt(self, body: bytes) -> tuple[int, str]:
        """
        :return: the status of the answer, 0 if there was none; and what was wrong.
        """
        headers = Headers({"Content-Type": [_MEDIA_TYPE], "User-Agent": ["nixery"]})
        if self._secret is not None:
            key = self._secret().encode("ascii")
            signature = hmac.new(key, body, "sha256").hexdigest()
            headers.setRawHeaders("X-Hub-Signature-256", [f"sha256={signature}"])
        try:
            asking = treq.post(
                self._url,
                data=body,
                headers=headers,
                agent=self._agent,
                auth=self._auth,
                allow_redirects=False,
                unbuffered=True,  # otherwise treq keeps a body whole, however large it is
            )
            response = await asking.addTimeout(_PATIENCE, self._reactor)
        except CancelledError:
            raise
        except Exception as error:  # whatever the network may be at fault
            if self._stopped:
                raise CancelledError from error
            return 0, str(error) or type(error).__name__
        abandon(response)
        return response.code, f"it answers {response.code}"
