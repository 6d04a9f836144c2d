"""Sending the events of a build as they come, in forms made of their lines of JSON."""

import json
import re
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from nixery.history.build_log import describe
from nixery.history.subscription import Subscription
from nixery.http.gate import gated
from nixery.http.request import RegistryRequest
from nixery.model.event_json import parse
from nixery.model.events import Done, Event, Failed, PhaseStarted, Skipped
from nixery.model.text import readable

HEARTBEAT = 15.0
"""Seconds between two signs of life on a connection on which nothing else is sent."""
_NUMBERED = re.compile(rb'^(\{"id":(\d+),.*)$', re.MULTILINE)
_LOG_LINE = b'"type":"log-line"'
_OWN = "nixery"


@attrs.frozen
class Form:
    """A way to send events.

    :param name: differs from every other's.
    :param media_type: of the whole answer.
    :param show: makes it of lines of JSON.
    :param begin: bytes that it begins with.
    :param heartbeat: bytes that may be sent when nothing happens, to keep a connection.
    """

    name: str
    media_type: str
    show: Callable[[bytes], bytes]
    begin: bytes = b""
    heartbeat: bytes = b""

    def without_logs(self) -> "Form":
        """The same without the output of packages."""
        show = self.show
        return attrs.evolve(
            self, name=f"{self.name} without logs", show=lambda lines: show(without_logs(lines))
        )


def without_logs(lines: bytes) -> bytes:
    """Events without the output of packages, also where errors quote it."""
    kept = []
    for line in lines.splitlines(keepends=True):
        if _LOG_LINE in line:
            continue
        if rb"\n" in line:
            made = {name: shorten(value) for name, value in json.loads(line).items()}
            line = json.dumps(made, separators=(",", ":")).encode("ascii") + b"\n"
        kept.append(line)
    return b"".join(kept)


def shorten(value: Any) -> Any:
    """An error's text without the end of a log that it quotes."""
    if not isinstance(value, str):
        return value
    return value.partition("\n")[0].removesuffix("; the end of its log:")


def _server_sent(lines: bytes) -> bytes:
    return _NUMBERED.sub(rb"id: \2\ndata: \1\n", lines)


def _text(lines: bytes, clean: Callable[[str], str]) -> bytes:
    shown = []
    # One document of all lines is read in half the time.
    for made in json.loads(b"[" + lines.rstrip().replace(b"\n", b",") + b"]"):
        if made["type"] == "log-line":
            shown.append(f"{clean(made['derivation'])}> {clean(made['line'])}\n")
        else:
            shown += [f"{_OWN}> {clean(text)}\n" for text in _told(parse(made))]
    return "".join(shown).encode("utf-8", "replace")


def _told(event: Event) -> list[str]:
    """The lines that tell of a step."""
    match event:
        case PhaseStarted(derivation=derivation, phase=phase):
            text: str | None = f"{derivation} is in its {phase}"
        case Done(digest=digest):
            text = f"done, as {digest}"
        case Failed(message=message):
            text = f"failed: {message}"
        case Skipped(count=count):
            text = f"some events are lost: {'an unknown number' if count is None else count}"
        case _:
            text = describe(event)
    return (text or "").splitlines()


SERVER_SENT = Form(
    "server-sent", "text/event-stream", _server_sent, b": the events of a build\n\n", b":\n\n"
)
"""https://html.spec.whatwg.org/multipage/server-sent-events.html"""
NDJSON = Form("ndjson", "application/x-ndjson", lambda lines: lines)
TEXT = Form("text", "text/plain; charset=utf-8", lambda lines: _text(lines, readable))
RAW_TEXT = Form("raw text", "text/plain; charset=utf-8", lambda lines: _text(lines, str))


async def send_events(
    clock: IReactorTime, request: RegistryRequest, subscription: Subscription, form: Form
) -> None:
    """Write all events of a build to a request whose headers are set, until the build ends."""
    request.write(form.begin)
    with gated(request) as gate:

        def beat() -> None:
            if gate.is_open:
                request.write(form.heartbeat)

        heart = LoopingCall(beat)
        heart.clock = clock
        if form.heartbeat:
            heart.start(HEARTBEAT, now=False)
        try:
            while (block := await subscription.next(gate.room)) is not None:
                if heart.running:
                    heart.reset()
                gate.write(block.shown(form.name, form.show))
                del block  # a client that takes nothing keeps no more than it was sent
                await gate.passed()
        finally:
            if heart.running:
                heart.stop()
