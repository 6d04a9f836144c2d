#!/bin/sh
# Cancelling the reading of a response's body leaves its connection open.
#
# Twisted documents that cancelling readBody()'s Deferred closes the connection; it does where the
# body's transport has abortConnection(). What Agent hands out, TransportProxyProducer, has none: so
# readBody() warns, and the connection stays until the server ends it. treq.content() has no
# canceller at all. A client that gives up on servers which stall in the middle of a body runs out
# of descriptors.
#
# Seen with Twisted 26.10.0 and treq 26.7.0 on Python 3.11. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0 treq==26.7.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import treq
from twisted.internet import task
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import Agent, readBody


class Stalls(Protocol):
    """Sends half of a body and no more."""

    closed = 0

    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")

    def connectionLost(self, reason):
        Stalls.closed += 1


async def main(reactor):
    port = reactor.listenTCP(0, Factory.forProtocol(Stalls), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/"
    for name, read in (("twisted.web.client.readBody", readBody), ("treq.content", treq.content)):
        response = await Agent(reactor).request(b"GET", url.encode())
        reading = read(response)
        await task.deferLater(reactor, 0.2)
        reading.cancel()
        try:
            await reading
        except CancelledError:
            pass
        await task.deferLater(reactor, 1)
        print(f"{name}: cancelled; connection closed a second later: {bool(Stalls.closed)}")
        if Stalls.closed:
            sys.exit("changed: the connection is closed")


print(f"Twisted {version('twisted')}, treq {version('treq')}")
task.react(lambda reactor: ensureDeferred(main(reactor)))
PYTHON
