"""A server that behaves as Google Cloud Storage where that matters, and verifies what fakes don't:
tokens, signatures, preconditions, checksums, the rules of resumable uploads.

Facts: https://cloud.google.com/storage/docs/json_api/v1, /docs/performing-resumable-uploads,
/docs/authentication/signatures.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint

from tests.gcs.accounts import Account, Accounts
from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.connections import GcsRequest, GcsSite
from tests.gcs.faults import ERRORS, Fault, Faults, damage
from tests.gcs.json_api import JsonApi
from tests.gcs.machine import machine_answer
from tests.gcs.objects import Bucket, Clock, Content, StoredObject
from tests.gcs.routes import Route, find_route
from tests.gcs.sessions import Sessions
from tests.gcs.uploads import Uploads
from tests.gcs.xml_api import XmlApi

reactor: Any = _reactor

PERMISSIONS = (
    *(f"storage.objects.{verb}" for verb in ("create", "get", "delete", "list", "update")),
    "storage.buckets.get",
)
EMAIL = "nixery@project.iam.gserviceaccount.com"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"


@attrs.define
class Logged:
    """A request, for tests to look at.

    :ivar kind: as in :mod:`tests.gcs.routes`; empty if there is no such kind.
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


class GcsServer:
    """A bucket on a port of this machine.

    :ivar account: the service account that is known.
    :ivar token: a token that is good for an hour of the server's clock.
    :ivar foreign: buckets that belong to somebody else.
    :ivar requests: what was asked, in the order in which it came.
    :ivar in_flight: how many requests are without an answer.
    :ivar most_in_flight: how many there were at most.
    :ivar faults: what goes wrong from now on.
    :ivar needs_token: whether the JSON API is only for who has a token; an emulator asks for none.
    :ivar read_delay: seconds to wait after each piece of a body that was read.
    """

    def __init__(self, bucket: str = "bucket") -> None:
        self.clock = Clock()
        self.bucket = Bucket(bucket, self.clock, permissions=set(PERMISSIONS))
        self.accounts = Accounts(self.clock)
        self.account: Account = self.accounts.add(EMAIL)
        self.token = self.accounts.issue()
        self.api = JsonApi(self.bucket)
        self.sessions = Sessions(self.bucket)
        self.foreign: set[str] = set()
        self.requests: list[Logged] = []
        self.in_flight = self.most_in_flight = 0
        self.faults = Faults()
        self.needs_token = True
        self.read_delay = 0.0
        self._uploads = Uploads(self.bucket, self.api, self.sessions)
        self._xml = XmlApi(self.bucket, self.accounts)
        self._held: list[Callable[[], None]] = []
        self._site = GcsSite(self)
        self._port: Any = None

    # --- for tests ------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return self.api.url

    @property
    def token_uri(self) -> str:
        return f"{self.url}/token"

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
        self.api.url = f"http://127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        """Stop listening, and drop all connections."""
        self._held.clear()
        await maybeDeferred(self._port.stopListening)
        self._site.drop_all()

    # --- for the connections --------------------------------------------------------------

    def serve(self, request: GcsRequest, asked: Asked) -> None:
        """Answer a request, or do to it what is scheduled."""
        logged = Logged("", asked.method, asked.path, asked.query)
        self.requests.append(logged)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        request.notifyFinish().addBoth(self._finished)
        try:
            route = find_route(asked)
        except Refused as refused:
            self._send(request, logged, refused.as_json())
            return
        logged.kind, logged.name = route.kind, route.values.get("name", "")
        logged.fault = fault = self.faults.next(route.kind, asked)

        def work() -> Answer:
            return damage(self._answer(route, asked, short=fault == "short"), fault)

        def go_on() -> None:
            self._send(request, logged, work())

        if fault is not None and fault in ERRORS:
            error = ERRORS[fault]
            self._send(request, logged, error.as_xml() if route.is_xml else error.as_json())
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

    def cut_off(self, asked: Asked) -> None:
        """Keep what came of a request whose connection was lost."""
        if asked.method == "PUT" and asked.path.startswith("/upload/"):
            self._uploads.cut_off(asked)

    def _finished(self, _: object) -> None:
        self.in_flight -= 1

    def _send(
        self, request: GcsRequest, logged: Logged, answer: Answer, truncate: bool = False
    ) -> None:
        if request.is_gone:
            return
        logged.status = answer.status
        request.send(answer, self.clock.now(), truncate)

    # --- what is asked --------------------------------------------------------------------

    def _answer(self, route: Route, asked: Asked, short: bool) -> Answer:
        try:
            self._check_access(route, asked)
            return self._dispatch(route, asked, short)
        except Refused as refused:
            return refused.as_xml() if route.is_xml else refused.as_json()

    def _check_access(self, route: Route, asked: Asked) -> None:
        """
        :raises Refused: if there is no such bucket, or nothing may be asked of it.
        """
        if route.needs_token(asked) and self.needs_token and not route.is_xml:
            self.accounts.demand_token(asked)
        for key in ("bucket", "target_bucket"):
            name = route.values.get(key, self.bucket.name)
            if name in self.foreign:
                reason = "AccessDenied" if route.is_xml else "forbidden"
                raise Refused(403, reason, f"The caller does not have access to {name}.")
            if name != self.bucket.name:
                reason = "NoSuchBucket" if route.is_xml else "notFound"
                raise Refused(404, reason, "The specified bucket does not exist.")

    def _dispatch(self, route: Route, asked: Asked, short: bool) -> Answer:
        name = route.values.get("name", "")
        api, uploads, xml = self.api, self._uploads, self._xml
        handlers: dict[str, Callable[[], Answer]] = {
            "token": lambda: self.accounts.refresh(asked, (self.token_uri, GOOGLE_TOKEN_URI)),
            "machine.ping": lambda: Answer(200, {"Metadata-Flavor": "Google"}),
            "machine.get": lambda: machine_answer(asked, name, self.accounts, self.account.project),
            "sign": lambda: self.accounts.sign_blob(asked, name),
            "upload.media": lambda: uploads.whole(asked),
            "upload.start": lambda: uploads.start(asked),
            "upload.chunk": lambda: uploads.chunk(asked, short),
            "upload.status": lambda: uploads.chunk(asked),
            "upload.cancel": lambda: uploads.cancel(asked),
            "object.get": lambda: api.get(asked, name),
            "object.media": lambda: api.media(asked, name),
            "object.delete": lambda: api.delete(asked, name),
            "object.patch": lambda: api.patch(asked, name),
            "object.rewrite": lambda: api.rewrite(asked, name, route.values["target"]),
            "object.copy": lambda: api.copy(asked, name, route.values["target"]),
            "object.list": lambda: api.list(asked),
            "bucket.get": lambda: api.describe_bucket(asked),
            "bucket.permissions": lambda: api.test_permissions(asked),
            "signed.get": lambda: xml.read(asked, name),
            "signed.head": lambda: xml.read(asked, name),
            "signed.put": lambda: xml.write(asked, name),
        }
        return handlers[route.kind]()


@asynccontextmanager
async def serving_gcs(bucket: str = "bucket") -> AsyncIterator[GcsServer]:
    """A server for the length of a block."""
    server = GcsServer(bucket)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
