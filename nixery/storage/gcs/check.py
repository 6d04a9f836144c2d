"""Whether a bucket can be used as it is set up, found out before anything depends on it."""

from treq.client import HTTPClient
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from nixery.model.errors import StorageUnavailable
from nixery.storage.gcs.bucket import Bucket
from nixery.storage.gcs.requests import network_reason
from nixery.storage.gcs.urls import SignedUrls, Urls

PERMISSIONS = [f"storage.objects.{verb}" for verb in ("create", "get", "delete", "list")]
_LIMIT = 10.0  # seconds
_PROBE = f"layers/{64 * '0'}"


async def bucket_faults(bucket: Bucket) -> list[str]:
    """What is wrong with the bucket, a phrase for each fault.

    :raises StorageUnavailable: if the service can't be asked at all.
    """
    looked = await bucket.look()
    if looked.status == 404:
        return [f"there is no bucket {bucket.name!r}"]
    if looked.status == 401:
        return [f"the credentials are not accepted: {looked.reason}"]
    answer = await bucket.permissions(PERMISSIONS)
    if answer.status == 200:
        granted = answer.document.get("permissions") or []
        missing = [permission for permission in PERMISSIONS if permission not in granted]
        if missing:
            return [f"these permissions are missing in {bucket.name!r}: {', '.join(missing)}"]
    if looked.status == 403:
        return [f"the bucket {bucket.name!r} may not be listed: {looked.reason}"]
    return []


async def signature_faults(clock: IReactorTime, agent: IAgent, urls: Urls) -> list[str]:
    """What is wrong with signed URLs: one is made and tried as a client would.

    The object need not be there: a signature is looked at first.
    """
    if not isinstance(urls, SignedUrls):
        return []
    try:
        url = await urls.url(_PROBE)
    except StorageUnavailable as error:
        return [error.reason]
    client = HTTPClient(agent)
    request = client.get(url, allow_redirects=False, unbuffered=True, reactor=clock)  # type: ignore[arg-type]
    try:
        response = await request.addTimeout(_LIMIT, clock)
        content = await response.content().addTimeout(_LIMIT, clock)
    except Exception as error:  # each layer of the network has its own
        return [f"a signed URL could not be tried: {network_reason(error)}"]
    if response.code in (200, 404):
        return []
    return [f"signed URLs are refused with status {response.code}{_code(content)}"]


def _code(content: bytes) -> str:
    """The error code in an XML answer."""
    _, found, rest = content.partition(b"<Code>")
    code = rest.partition(b"</Code>")[0][:80].decode("ascii", "replace")
    return f" ({code})" if found else ""
