"""Copying a blob from the bucket to a client, no faster than the client takes it."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nixery.storage.gcs.answer import PASSING, unavailable
from nixery.storage.gcs.bodies import abandon, abort
from nixery.storage.gcs.bucket import Bucket, Object
from nixery.storage.gcs.requests import Unreached

_LONGEST_SILENCE = 30.0  # seconds


@implementer(IPushProducer)
class _Copying(Protocol):
    """Hands on what arrives, up to a number of bytes.

    :ivar finished: fires when there is no more, whether or not it was all.
    """

    def __init__(self, clock: IReactorTime, consumer: IConsumer, most: int) -> None:
        self.copied = 0
        self.stopped = False
        self.finished: Deferred[None] = Deferred(lambda _: self._abort())
        self._clock = clock
        self._consumer = consumer
        self._most = most
        self._silence: IDelayedCall | None = None
        self._registered = False

    def connectionMade(self) -> None:
        self._registered = True
        self._listen()
        self._consumer.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        piece = data[: self._most - self.copied]
        self.copied += len(piece)
        if self._silence is not None:
            self._silence.reset(_LONGEST_SILENCE)
        if piece and self._registered:
            self._consumer.write(piece)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        if not self.finished.called:
            self.finished.callback(None)

    def pauseProducing(self) -> None:
        self._rest()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._listen()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self.stopped = True
        self._abort()
        if not self.finished.called:
            self.finished.callback(None)

    @property
    def _producer(self) -> IPushProducer:
        assert self.transport is not None
        return self.transport  # type: ignore[return-value]  # what deliverBody gives is one

    def _leave(self) -> None:
        self._rest()
        if self._registered:
            self._registered = False
            self._consumer.unregisterProducer()

    def _abort(self) -> None:
        if self.transport is not None:
            abort(self.transport)
        self._leave()

    def _listen(self) -> None:
        self._rest()
        self._silence = self._clock.callLater(_LONGEST_SILENCE, self._abort)

    def _rest(self) -> None:
        silence, self._silence = self._silence, None
        if silence is not None and silence.active():
            silence.cancel()


class Streams:
    """Copies objects; what a lost connection has not brought is asked for anew."""

    _log = Logger()

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def copy(self, found: Object, start: int, length: int, consumer: IConsumer) -> None:
        """Write a part of an object to a consumer.

        :param start: of the first byte.
        :param length: bytes.
        :raises StorageUnavailable: if they can't be had; some may have been written.
        :raises CancelledError: if the consumer wants no more.
        """
        requests, tried, offset, end = self._bucket.requests, 0, start, start + length
        what = f"reading {found.name}"
        while offset < end:
            try:
                copied = await self._copy_once(what, found, offset, end, consumer)
                reason = f"it ended after {copied} of {end - offset} bytes"
            except Unreached as unreached:
                copied, reason = 0, str(unreached)
            offset += copied
            tried = 0 if copied else tried + 1
            if offset < end:
                text = "{what}: {reason}; going on"
                requests.repeats.warn(self._log, reason, text, what=what, reason=reason)
                if tried >= requests.patience.tries:
                    raise unavailable(what, reason)
                await requests.pause(requests.patience.wait(tried or 1))

    async def _copy_once(
        self, what: str, found: Object, offset: int, end: int, consumer: IConsumer
    ) -> int:
        requests = self._bucket.requests
        url = self._bucket.media_url(found.name, found.generation)
        response = await requests.open(url, {"Range": f"bytes={offset}-{end - 1}"})
        if response.code != 206 and not (response.code == 200 and offset == 0):
            abandon(response)
            if response.code in PASSING:
                raise Unreached(f"status {response.code}")
            raise unavailable(what, f"status {response.code}")
        copying = _Copying(requests.reactor, consumer, end - offset)
        response.deliverBody(copying)
        await copying.finished
        if copying.stopped:
            raise CancelledError()  # nobody takes the bytes any more
        return copying.copied
