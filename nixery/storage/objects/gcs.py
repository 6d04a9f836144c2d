"""Google Cloud Storage as an object store, by its JSON API.

google-cloud-storage finds out what the daemon may do in the bucket. It would do other requests in
threads, too: a bucket that does not answer would then hold those that the whole daemon shares, and
a request that nobody waits for could not be ended. So these go through treq.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import json
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import inf
from urllib.parse import quote, urlencode, urlsplit

import attrs
from google.api_core.exceptions import ClientError, MethodNotImplemented, ServerError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import RefreshError, TransportError
from google.cloud.storage import Client
from google.oauth2.credentials import Credentials
from requests.exceptions import RequestException
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IAgent
from zope.interface import implementer

from nixery.model.service_errors import StorageFull
from nixery.model.text import cut
from nixery.reactor import IReactor, in_thread
from nixery.storage.objects.gcs_answers import (
    document_of,
    is_full,
    is_there,
    object_of,
    reason_of,
)
from nixery.storage.objects.gcs_upload import GcsUpload
from nixery.storage.objects.google_credentials import (
    Anonymous,
    GoogleCredentials,
    UrlSigner,
    key_signer,
)
from nixery.storage.objects.http_client import PASSING, HttpAnswer, StoreClient, url_faults
from nixery.storage.objects.object_store import (
    ABSENT,
    ICredentials,
    IObjectStore,
    NewObject,
    PassingFault,
    Refused,
    StoredObject,
)
from nixery.storage.objects.v4_signature import presigned_url

GOOGLE = "https://storage.googleapis.com"
PERMISSIONS = [f"storage.objects.{verb}" for verb in ("create", "get", "delete", "list")]

_BINARY = "application/octet-stream"
_SKEW = 60  # seconds that the service's clock may be behind this machine's
_PROBE = f"layers/{64 * '0'}"


@attrs.frozen
class GcsBucket:
    """A bucket, and the key that URLs of its objects are signed with; without one, the default
    credentials sign.

    :param signing_key: the path of a PEM file; together with the account.
    :param signing_account: a service account's e-mail address.
    """

    name: str
    signing_key: str | None = None
    signing_account: str | None = None


@implementer(IObjectStore)
class GcsStore:
    """One bucket."""

    title = "Google Cloud Storage"
    remarks = ()
    url_age = inf

    def __init__(
        self,
        reactor: IReactor,
        agent: IAgent,
        bucket: GcsBucket,
        environ: Mapping[str, str],
        credentials: ICredentials | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param agent: keeps connections.
        :param environ: where Google's own variables are looked for.
        :param credentials: other ones than the default.
        :param now: seconds since the epoch.
        """
        emulator = emulator_url(environ)
        if credentials is None:
            anonymous = emulator and not environ.get("GOOGLE_APPLICATION_CREDENTIALS")
            credentials = Anonymous() if anonymous else GoogleCredentials(reactor)
        self._reactor = reactor
        self._client = StoreClient(reactor, agent)
        self._credentials = credentials
        self._bucket = bucket
        self._now = now
        self._signer: UrlSigner | None = None
        self._is_signer_known = False
        base, name = emulator or GOOGLE, quote(bucket.name, safe="")
        self._base, self._root = base, f"{base}/{bucket.name}"
        self._api = f"{base}/storage/v1/b/{name}"
        self._uploads = f"{base}/upload/storage/v1/b/{name}/o"

    # --- objects ----------------------------------------------------------------------------

    async def head(self, name: str, limit: float) -> StoredObject | None:
        answer = await self.ask("GET", self._object(name), limit, (200, 404))
        return object_of(answer) if is_there(answer) else None

    async def read(self, name: str, version: str | None, limit: float) -> bytes | None:
        url = self._object(name, alt="media", generation=version)
        answer = await self.ask("GET", url, limit, (200, 404))
        return answer.content if is_there(answer) else None

    async def copy_range(
        self, found: StoredObject, start: int, end: int, consumer: IConsumer, limit: float
    ) -> int:
        url = self._object(found.name, alt="media", generation=found.version)
        for repeatable in (True, False):
            token = await self._credentials.token()
            status, copied = await self._client.copy_range(
                url, _authorization(token), start, end, consumer, limit
            )
            if status == 401 and token is not None and repeatable:
                self._credentials.reject(token)
            elif status in PASSING:
                raise PassingFault(f"status {status}")
            elif status not in (200, 206):
                raise Refused(f"status {status}")
            else:
                break
        return copied

    async def write(self, new: NewObject, over: str | None, limit: float) -> StoredObject:
        resource = {
            "name": new.name,
            "contentType": _BINARY,
            "crc32c": new.checksum,
            "metadata": new.metadata,
        }
        boundary = uuid.uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {_BINARY}\r\n\r\n"
        )
        query = _query(uploadType="multipart", ifGenerationMatch=_generation(over))
        answer = await self.ask(
            "POST",
            f"{self._uploads}?{query}",
            limit,
            (200, 412),
            {"Content-Type": f"multipart/related; boundary={boundary}"},
            b"".join((head.encode(), new.content, f"\r\n--{boundary}--\r\n".encode())),
        )
        return object_of(answer)

    async def begin_upload(self, name: str, limit: float) -> GcsUpload:
        url = f"{self._uploads}?{_query(uploadType='resumable', name=name)}"
        resource = {"name": name, "contentType": _BINARY}
        answer = await self._post(url, resource, limit, (200,), {"X-Upload-Content-Type": _BINARY})
        location = answer.header("Location")
        if not location.startswith("http"):
            raise Refused("the answer names no session")
        return GcsUpload(self.ask, location)

    async def copy(
        self,
        source: StoredObject,
        name: str,
        over: str,
        metadata: Mapping[str, str],
        limit: float,
    ) -> StoredObject:
        target = self._object(name).partition("/storage/v1")[2]
        resource = {"contentType": _BINARY, "metadata": metadata}
        query = {"ifGenerationMatch": _generation(over), "sourceGeneration": source.version}
        while True:
            url = f"{self._object(source.name)}/rewriteTo{target}?{_query(**query)}"
            answer = await self._post(url, resource, limit, (200, 412))
            document = document_of(answer)
            if answer.status == 412 or document.get("done", True):
                return object_of(answer, document.get("resource"))
            query["rewriteToken"] = document["rewriteToken"]

    async def delete(self, name: str, version: str | None, limit: float) -> None:
        url = self._object(name, ifGenerationMatch=version)
        await self.ask("DELETE", url, limit, (200, 204, 404, 412))

    async def list_page(
        self, prefix: str, page: str | None, limit: float
    ) -> tuple[Sequence[StoredObject], str | None]:
        query = _query(prefix=prefix, maxResults=500, pageToken=page)
        answer = await self.ask("GET", f"{self._api}/o?{query}", limit)
        document = document_of(answer)
        objects = [object_of(answer, item) for item in document.get("items") or ()]
        return objects, document.get("nextPageToken") or None

    async def drop_uploads(self, age: float, limit: float) -> None:
        """Sessions end by themselves, after a week."""

    # --- how clients get there --------------------------------------------------------------

    async def url(self, name: str, lifetime: int, limit: float) -> str:
        await self._find_signer()
        url, signer = f"{self._root}/{quote(name)}", self._signer
        if signer is None:
            return url
        # Dated back, and good for longer by as much: clocks differ.
        since, lasting = self._now() - _SKEW, lifetime + _SKEW
        signing = partial(presigned_url, url, signer.account, signer.sign, since, lasting)
        try:
            # A key at hand takes less than a thread does.
            return signing() if signer.is_local else await in_thread(self._reactor, signing)
        except Exception as error:  # google.auth has many, and those of the network
            raise Refused(f"no URL can be signed: {cut(str(error), 300)}") from error

    async def _find_signer(self) -> None:
        """Find out what signs, which is nothing for a bucket that is public."""
        if self._is_signer_known:
            return
        key, account = self._bucket.signing_key, self._bucket.signing_account
        if key and account:
            self._signer = await in_thread(self._reactor, key_signer, key, account)
        elif isinstance(self._credentials, GoogleCredentials):
            self._signer = await self._credentials.signer()
        self._is_signer_known = True

    # --- whether it can be used -------------------------------------------------------------

    async def faults(self, redirect: bool, limit: float) -> Sequence[str]:
        if redirect or self._bucket.signing_key:
            await self._find_signer()
        faults = await self._bucket_faults(limit)
        if redirect and self._signer is not None:
            try:
                url = await self.url(_PROBE, 300, limit)
                faults += await url_faults(self._client, url, limit)
            except Refused as refused:
                faults.append(str(refused))
        return faults

    async def _bucket_faults(self, limit: float) -> list[str]:
        name, query = self._bucket.name, _query(prefix="staging/", maxResults=1)
        looked = await self.ask("GET", f"{self._api}/o?{query}", limit, (200, 401, 403, 404))
        if looked.status == 404:
            return [f"there is no bucket {name!r}"]
        if looked.status == 401:
            return [f"the credentials are not accepted: {reason_of(looked)}"]
        token = await self._credentials.token()
        granted = await in_thread(self._reactor, self._granted, token, limit)
        missing = [permission for permission in PERMISSIONS if permission not in granted]
        if missing:
            return [f"these permissions are missing in {name!r}: {', '.join(missing)}"]
        if looked.status == 403:
            return [f"the bucket {name!r} may not be listed: {reason_of(looked)}"]
        return []

    def _granted(self, token: str | None, limit: float) -> Collection[str]:
        """The permissions that the credentials have in the bucket: all, where that can't be asked,
        as of emulators. Blocks."""
        credentials = AnonymousCredentials() if token is None else Credentials(token)  # type: ignore[no-untyped-call]
        client = Client("-", credentials, client_options={"api_endpoint": self._base})
        bucket = client.bucket(self._bucket.name)
        try:
            granted: list[str] = bucket.test_iam_permissions(PERMISSIONS, timeout=limit, retry=None)
        except (ClientError, MethodNotImplemented, RefreshError):
            return PERMISSIONS
        except (ServerError, RequestException, TransportError) as error:
            raise PassingFault(cut(str(error), 300)) from error
        return granted

    # --- requests ---------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        url: str,
        limit: float,
        expected: Collection[int] = (200,),
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        with_token: bool = True,
    ) -> HttpAnswer:
        """Send a request; if its token was refused, once more with a new one.

        :param expected: statuses that the caller knows what to do with.
        :param with_token: whether the URL needs one: that of an upload's session is one.
        """
        token = await self._credentials.token() if with_token else None
        sent = {**(headers or {}), **_authorization(token)}
        answer = await self._client.ask(method, url, sent, body, limit)
        if answer.status == 401 and token is not None:
            self._credentials.reject(token)
            sent |= _authorization(await self._credentials.token())
            answer = await self._client.ask(method, url, sent, body, limit)
        if answer.status in expected:
            return answer
        if is_full(answer):
            raise StorageFull("the bucket")
        if answer.status in PASSING:
            raise PassingFault(reason_of(answer), answer.retry_after)
        raise Refused(reason_of(answer))

    async def _post(
        self,
        url: str,
        resource: object,
        limit: float,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        headers = {"Content-Type": "application/json", **(headers or {})}
        body = json.dumps(resource).encode("ascii")
        return await self.ask("POST", url, limit, expected, headers, body)

    def _object(self, name: str, **query: object) -> str:
        text = _query(**query)
        return f"{self._api}/o/{quote(name, safe='')}" + (f"?{text}" if text else "")


def emulator_url(environ: Mapping[str, str]) -> str | None:
    """The address in ``STORAGE_EMULATOR_HOST``, as Google's clients take it."""
    host = environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if not host:
        return None
    return host if urlsplit(host).scheme in ("http", "https") else f"http://{host}"


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _generation(over: str | None) -> str | None:
    return "0" if over == ABSENT else over


def _query(**parameters: object) -> str:
    return urlencode({name: value for name, value in parameters.items() if value is not None})
