"""Sending the events of a build as they come, no faster than the client takes them."""

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.server import Request

from nixery.history.subscription import Subscription
from nixery.http.gate import Gate, gated
from nixery.web.forms import Form

HEARTBEAT = 15.0
"""Seconds between two signs of life on a connection on which nothing else is sent."""


async def send_events(
    clock: IReactorTime, request: Request, subscription: Subscription, form: Form
) -> None:
    """Write all events of a build to a request whose headers are set, until the build ends."""
    request.write(form.begin)
    with gated(request) as gate:
        heart = _Heart(clock, request, gate, form.heartbeat)
        try:
            while (block := await subscription.next(gate.room)) is not None:
                heart.rest()
                gate.write(block.shown(form.name, form.show))
                del block  # whoever takes nothing keeps no more than it was sent
                await gate.passed()
        finally:
            heart.stop()


class _Heart:
    """Sends a form's heartbeat when nothing else was sent for a while."""

    def __init__(
        self, reactor: IReactorTime, request: Request, gate: Gate, heartbeat: bytes
    ) -> None:
        self._call = LoopingCall(self._beat)
        self._call.clock = reactor
        self._request = request
        self._gate = gate
        self._heartbeat = heartbeat
        if heartbeat:
            self._call.start(HEARTBEAT, now=False)

    def rest(self) -> None:
        """Something was sent."""
        if self._call.running:
            self._call.reset()

    def stop(self) -> None:
        """There is no more need."""
        if self._call.running:
            self._call.stop()

    def _beat(self) -> None:
        if self._gate.is_open:
            self._request.write(self._heartbeat)
