"""What servers of object stores have in common: a bucket, what was asked, and what goes wrong."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.connections import BucketRequest, BucketSite
from tests.gcs.faults import Fault, Faults
from tests.gcs.objects import Bucket, Clock, Content, StoredObject

reactor: Any = _reactor


class IsRoute(Protocol):
    """Where a request goes."""

    @property
    def kind(self) -> str:
        """What kind of request it is, such as ``object.get``."""

    @property
    def name(self) -> str:
        """The object that it is about, or what else the path names."""


@attrs.define
class Logged:
    """A request, for tests to look at.

    :ivar kind: empty if there is no such kind.
    :ivar name: of the object, or of what else the path names.
    :ivar status: of the answer, or nothing as long as (or if) there was none.
    """

    kind: str
    method: str
    path: str
    query: dict[str, str]
    name: str = ""
    fault: Fault | None = None
    status: int | None = None


class BucketServer(ABC):
    """A bucket on a port of this machine.

    :ivar url: the address, without a slash at its end.
    :ivar foreign: buckets that belong to somebody else.
    :ivar requests: what was asked, in the order in which it came.
    :ivar in_flight: how many requests are without an answer.
    :ivar most_in_flight: how many there were at most.
    :ivar faults: what goes wrong from now on.
    :ivar read_delay: seconds to wait after each piece of a body that was read.
    """

    def __init__(self, bucket: str, permissions: set[str]) -> None:
        self.url = ""
        self.clock = Clock()
        self.bucket = Bucket(bucket, self.clock, permissions=permissions)
        self.foreign: set[str] = set()
        self.requests: list[Logged] = []
        self.in_flight = self.most_in_flight = 0
        self.faults = Faults()
        self.read_delay = 0.0
        self._held: list[Callable[[], None]] = []
        self._site = BucketSite(self)
        self._port: Any = None

    # --- the service ----------------------------------------------------------------------

    @property
    @abstractmethod
    def unfinished(self) -> int:
        """How many uploads were begun, and neither finished nor cancelled."""

    @abstractmethod
    def find_route(self, asked: Asked) -> IsRoute:
        """
        :raises Refused: if there is nothing of that kind.
        """

    @abstractmethod
    def answer(self, route: Any, asked: Asked, fault: Fault | None) -> Answer:
        """Do what is asked, once.

        :param fault: changes what is done, or the answer, if it is of that kind.
        """

    @abstractmethod
    def refusal(self, refused: Refused, route: Any | None) -> Answer:
        """An error, as the service says it."""

    @abstractmethod
    def error(self, fault: Fault) -> Refused | None:
        """The error that a fault is, if it is one."""

    @abstractmethod
    def cut_off(self, asked: Asked) -> None:
        """Keep what came of a request whose connection was lost, if the service does."""

    # --- for tests ------------------------------------------------------------------------

    @property
    def objects(self) -> dict[str, StoredObject]:
        """The bucket's objects, by name."""
        return self.bucket.objects

    def content(self, name: str) -> bytes:
        """An object's bytes."""
        return self.objects[name].content.data

    def damage(self, name: str, content: bytes | None) -> None:
        """Have other bytes in an object, or no object, behind everybody's back: its generation
        and its checksums stay as they were."""
        if content is None:
            del self.objects[name]
            return
        found = self.objects[name]
        damaged = attrs.evolve(found.content, data=content)
        self.objects[name] = attrs.evolve(found, content=damaged)

    def put(self, name: str, content: bytes) -> StoredObject:
        """Store an object as somebody else would."""
        return self.bucket.put(name, Content.of(content))

    @property
    def connections(self) -> int:
        """How many connections are open, idle ones too."""
        return self._site.connections

    def count(self, kind: str) -> int:
        """How many requests of a kind there were."""
        return sum(logged.kind == kind for logged in self.requests)

    def release(self) -> None:
        """Go on with all requests that hang: late, they take their effect."""
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    async def start(self, port: int = 0) -> None:
        """Listen, on a free port if none is given."""
        endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        self._port = await endpoint.listen(self._site)
        self.url = f"http://127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        """Stop listening, and drop all connections."""
        self._held.clear()
        await maybeDeferred(self._port.stopListening)
        self._site.drop_all()

    # --- for the connections --------------------------------------------------------------

    def serve(self, request: BucketRequest, asked: Asked) -> None:
        """Answer a request, or do to it what is scheduled."""
        logged = Logged("", asked.method, asked.path, asked.query)
        self.requests.append(logged)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        request.notifyFinish().addBoth(self._finished)
        try:
            route = self.find_route(asked)
        except Refused as refused:
            self._send(request, logged, self.refusal(refused, None))
            return
        logged.kind, logged.name = route.kind, route.name
        logged.fault = fault = self.faults.next(route.kind, asked)

        def work() -> Answer:
            return self._answered(route, asked, fault)

        def go_on() -> None:
            self._send(request, logged, work())

        if fault is not None and (error := self.error(fault)) is not None:
            self._send(request, logged, self.refusal(error, route))
        elif fault == "hang":
            self._held.append(go_on)
        elif fault == "hang-after":
            answer = work()
            self._held.append(lambda: self._send(request, logged, answer))
        elif fault in ("drop-before", "drop-midway", "drop-after"):
            if fault == "drop-after":
                work()
            if fault == "drop-midway":
                self.cut_off(attrs.evolve(asked, body=asked.body[: len(asked.body) // 2]))
            request.abort()
        else:
            self._send(request, logged, work(), truncate=fault == "truncate")

    def _answered(self, route: IsRoute, asked: Asked, fault: Fault | None) -> Answer:
        try:
            return self.answer(route, asked, fault)
        except Refused as refused:
            return self.refusal(refused, route)

    def _finished(self, _: object) -> None:
        self.in_flight -= 1

    def _send(
        self, request: BucketRequest, logged: Logged, answer: Answer, truncate: bool = False
    ) -> None:
        if request.is_gone:
            return
        logged.status = answer.status
        request.send(answer, self.clock.now(), truncate)
