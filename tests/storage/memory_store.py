"""An object store in memory, with faults on a schedule: what the storage over it does about them
is no matter of one service's."""

import random
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from nixery.model.service_errors import StorageFull
from nixery.storage.objects.object_store import (
    ABSENT,
    IObjectStore,
    IObjectUpload,
    NewObject,
    PassingFault,
    PreconditionFailed,
    Refused,
    StoredObject,
    checksum_of,
)

reactor: Any = _reactor

BEFORE, AFTER, CUT = "before", "after", "cut"
"""Faults: of a request that was lost, of one whose answer was, and of one lost in the middle."""
PIECE = 10_000  # bytes that are copied at a time


@attrs.define
class Schedule:
    """Which attempts fail, and how.

    :ivar choose: says what befalls an attempt, by the words that tell it from others.
    :ivar happened: the faults that befell attempts.
    """

    choose: Callable[[tuple[object, ...]], str] = lambda words: ""
    happened: list[str] = attrs.field(factory=list)

    def next(self, *words: object) -> str:
        """The fault that befalls an attempt, if any."""
        fault = self.choose(words)
        self.happened += [fault] if fault else []
        return fault

    @classmethod
    def each_once(cls, fault: str) -> "Schedule":
        """Each distinct attempt fails once."""
        seen: set[object] = set()

        def choose(words: tuple[object, ...]) -> str:
            new = words not in seen
            seen.add(words)
            return fault if new else ""

        return cls(choose)

    @classmethod
    def share(cls, share: float, seed: int) -> "Schedule":
        """A share of all attempts fails, by chance that is always the same."""
        chance = random.Random(seed)
        kinds = (BEFORE, AFTER, CUT)
        return cls(lambda _: chance.choice(kinds) if chance.random() < share else "")


@attrs.frozen
class Held:
    """An object with its content."""

    content: bytes
    checksum: str
    version: str
    metadata: Mapping[str, str]
    written: float


@attrs.define
class MemoryBucket:
    """What several stores share.

    :ivar offset: seconds by which the bucket's clock is ahead.
    :ivar uploads: how many are under way.
    """

    objects: dict[str, Held] = attrs.field(factory=dict)
    full: bool = False
    offset: float = 0
    schedule: Schedule = attrs.field(factory=Schedule)
    attempts: list[tuple[object, ...]] = attrs.field(factory=list)
    uploads: int = 0
    _count: int = 0

    def now(self) -> float:
        seconds: float = reactor.seconds()
        return seconds + self.offset

    def describe(self, name: str) -> StoredObject | None:
        held = self.objects.get(name)
        if held is None:
            return None
        age, size = self.now() - held.written, len(held.content)
        return StoredObject(name, held.version, size, held.checksum, dict(held.metadata), age)

    def put(
        self, name: str, content: bytes, metadata: Mapping[str, str], over: str | None = None
    ) -> StoredObject:
        if self.full and name.startswith(("layers", "builds", "staging")):
            raise StorageFull("the bucket")
        held = self.objects.get(name)
        if over is not None and (held.version if held else ABSENT) != over:
            raise PreconditionFailed
        self._count += 1
        checksum = checksum_of(content)
        self.objects[name] = Held(content, checksum, str(self._count), metadata, self.now())
        found = self.describe(name)
        assert found is not None
        return found


@implementer(IObjectUpload)
class MemoryParts:
    """An upload in parts, as S3 has it: each is sent as one."""

    def __init__(self, store: "MemoryStore", name: str) -> None:
        self._store = store
        self._name = name
        self._parts: dict[int, bytes] = {}
        self._number = 0
        store.bucket.uploads += 1

    async def send(self, part: memoryview, last: bool, limit: float) -> StoredObject | None:
        content = bytes(part)

        def effect() -> StoredObject | None:
            if not last and len(content) < self._store.least_part:
                raise Refused("the part is too small")
            self._parts[self._number] = content
            whole = b"".join(self._parts.values())
            return self._store.bucket.put(self._name, whole, {}) if last else None

        sent: StoredObject | None = await self._store.attempt(
            "send", effect, self._name[:7], self._number
        )
        self._number += 1
        self._store.bucket.uploads -= last
        return sent

    async def cancel(self, limit: float) -> None:
        self._store.bucket.uploads -= 1


@implementer(IObjectStore)
class MemoryStore:
    """A store whose every method may fail in a way that passes, on the bucket's schedule."""

    title = "memory"
    remarks = ()
    url_age = inf

    def __init__(self, bucket: MemoryBucket, least_part: int = 0) -> None:
        self.bucket = bucket
        self.least_part = least_part
        self.signed = 0

    async def attempt(self, kind: str, effect: Callable[[], Any], *words: object) -> Any:
        """Do something, at some later moment, unless a fault befalls it."""
        self.bucket.attempts.append((kind, *words))
        fault = self.bucket.schedule.next(kind, *words)
        await deferLater(reactor, 0, lambda: None)
        if fault in (BEFORE, CUT):
            raise PassingFault("the request was lost")
        result = effect()
        if fault == AFTER:
            raise PassingFault("the answer was lost")
        return result

    async def head(self, name: str, limit: float) -> StoredObject | None:
        found: StoredObject | None = await self.attempt(
            "head", lambda: self.bucket.describe(name), name
        )
        return found

    async def read(self, name: str, version: str | None, limit: float) -> bytes | None:
        def effect() -> bytes | None:
            held = self.bucket.objects.get(name)
            return held.content if held and version in (None, held.version) else None

        content: bytes | None = await self.attempt("read", effect, name)
        return content

    async def copy_range(
        self, found: StoredObject, start: int, end: int, consumer: IConsumer, limit: float
    ) -> int:
        self.bucket.attempts.append(("copy_range", found.name, start))
        fault = self.bucket.schedule.next("copy_range", found.name, start)
        if fault in (BEFORE, AFTER):
            raise PassingFault("the request was lost")
        held = self.bucket.objects.get(found.name)
        if held is None or held.version != found.version:
            raise Refused("it is gone")
        content = held.content[start : (start + end + 1) // 2 if fault == CUT else end]
        source = Source(consumer)
        consumer.registerProducer(source, True)
        try:
            for at in range(0, len(content), PIECE):
                await source.may_go_on()
                consumer.write(content[at : at + PIECE])
        finally:
            consumer.unregisterProducer()
        return len(content)

    async def write(self, new: NewObject, over: str | None, limit: float) -> StoredObject:
        def effect() -> StoredObject:
            content = bytes(new.content)
            if checksum_of(content) != new.checksum:
                raise Refused("the checksum is another one")
            return self.bucket.put(new.name, content, new.metadata, over)

        written: StoredObject = await self.attempt("write", effect, new.name, over)
        return written

    async def begin_upload(self, name: str, limit: float) -> MemoryParts:
        await self.attempt("begin", lambda: None, name[:7])
        return MemoryParts(self, name)

    async def copy(
        self,
        source: StoredObject,
        name: str,
        over: str,
        metadata: Mapping[str, str],
        limit: float,
    ) -> StoredObject:
        def effect() -> StoredObject:
            held = self.bucket.objects.get(source.name)
            if held is None or held.version != source.version:
                raise Refused("the source is gone")
            return self.bucket.put(name, held.content, metadata, over)

        copied: StoredObject = await self.attempt("copy", effect, name, over)
        return copied

    async def delete(self, name: str, version: str | None, limit: float) -> None:
        def effect() -> None:
            held = self.bucket.objects.get(name)
            if held is not None and version in (None, held.version):
                del self.bucket.objects[name]

        await self.attempt("delete", effect, name)

    async def list_page(
        self, prefix: str, page: str | None, limit: float
    ) -> tuple[Sequence[StoredObject], str | None]:
        def effect() -> tuple[Sequence[StoredObject], str | None]:
            names = sorted(n for n in self.bucket.objects if n.startswith(prefix))
            names = [name for name in names if name > (page or "")]
            found = [self.bucket.describe(name) for name in names[:2]]
            return [each for each in found if each], names[1] if len(names) > 2 else None

        listed: tuple[Sequence[StoredObject], str | None] = await self.attempt(
            "list", effect, prefix, page
        )
        return listed

    async def drop_uploads(self, age: float, limit: float) -> None:
        await self.attempt("drop uploads", lambda: None)

    async def url(self, name: str, lifetime: int, limit: float) -> str:
        await self.attempt("url", lambda: None, name)
        self.signed += 1
        return f"memory://{name}?{self.signed}"

    async def faults(self, redirect: bool, limit: float) -> Sequence[str]:
        faults: Sequence[str] = await self.attempt("faults", list)
        return faults


@implementer(IPushProducer)
class Source:
    """Waits while its consumer takes no more."""

    def __init__(self, consumer: IConsumer) -> None:
        self._going: Deferred[None] | None = None
        self._stopped = False

    async def may_go_on(self) -> None:
        await deferLater(reactor, 0, lambda: None)
        if self._going is not None:
            await self._going
        if self._stopped:
            raise CancelledError

    def pauseProducing(self) -> None:
        self._going = Deferred()

    def resumeProducing(self) -> None:
        going, self._going = self._going, None
        if going is not None and not going.called:
            going.callback(None)

    def stopProducing(self) -> None:
        self._stopped = True
        self.resumeProducing()
