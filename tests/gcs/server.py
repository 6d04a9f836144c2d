"""A server that behaves as Google Cloud Storage where that matters, and verifies what fakes don't:
tokens, signatures, preconditions, checksums, the rules of resumable uploads.

Facts: https://cloud.google.com/storage/docs/json_api/v1, /docs/performing-resumable-uploads,
/docs/authentication/signatures.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.gcs.accounts import Account, Accounts
from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.bucket_server import BucketServer
from tests.gcs.faults import ERRORS, Fault, damage
from tests.gcs.json_api import JsonApi
from tests.gcs.machine import machine_answer
from tests.gcs.routes import Route, find_route
from tests.gcs.sessions import Sessions
from tests.gcs.uploads import Uploads
from tests.gcs.xml_api import XmlApi

PERMISSIONS = (
    *(f"storage.objects.{verb}" for verb in ("create", "get", "delete", "list", "update")),
    "storage.buckets.get",
)
EMAIL = "nixery@project.iam.gserviceaccount.com"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"


class GcsServer(BucketServer):
    """A bucket on a port of this machine.

    :ivar account: the service account that is known.
    :ivar token: a token that is good for an hour of the server's clock.
    :ivar needs_token: whether the JSON API is only for who has a token; an emulator asks for none.
    """

    def __init__(self, bucket: str = "bucket") -> None:
        super().__init__(bucket, set(PERMISSIONS))
        self.accounts = Accounts(self.clock)
        self.account: Account = self.accounts.add(EMAIL)
        self.token = self.accounts.issue()
        self.api = JsonApi(self.bucket)
        self.sessions = Sessions(self.bucket)
        self.needs_token = True
        self._uploads = Uploads(self.bucket, self.api, self.sessions)
        self._xml = XmlApi(self.bucket, self.accounts)

    @property
    def token_uri(self) -> str:
        return f"{self.url}/token"

    @property
    def unfinished(self) -> int:
        return sum(
            not each.cancelled and each.stored is None for each in self.sessions.open.values()
        )

    async def start(self, port: int = 0) -> None:
        await super().start(port)
        self.api.url = self.url

    # --- the service ----------------------------------------------------------------------

    def find_route(self, asked: Asked) -> Route:
        return find_route(asked)

    def answer(self, route: Route, asked: Asked, fault: Fault | None) -> Answer:
        self._check_access(route, asked)
        return damage(self._dispatch(route, asked, fault == "short"), fault)

    def refusal(self, refused: Refused, route: Route | None) -> Answer:
        is_xml = route is not None and route.is_xml
        return refused.as_xml() if is_xml else refused.as_json()

    def error(self, fault: Fault) -> Refused | None:
        return ERRORS.get(fault)

    def cut_off(self, asked: Asked) -> None:
        if asked.method == "PUT" and asked.path.startswith("/upload/"):
            self._uploads.cut_off(asked)

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
        name = route.name
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
