"""A bucket's storage, put together of its parts."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.internet.threads import deferToThreadPool
from twisted.web.iweb import IAgent

from nixery.interfaces import ICredentials
from nixery.storage.credentials import Anonymous, GoogleCredentials
from nixery.storage.gcs.bucket import GOOGLE, Bucket
from nixery.storage.gcs.check import bucket_faults, signature_faults
from nixery.storage.gcs.patience import Patience
from nixery.storage.gcs.requests import Requests
from nixery.storage.gcs.storage import GcsStorage, Options
from nixery.storage.gcs.urls import PublicUrls, SignedUrls, Urls, load_signer


@attrs.frozen
class BucketSettings:
    """Which bucket, and how clients are sent to it.

    :param signing_key: the path of a PEM file; together with the account.
    :param signing_account: a service account's e-mail address.
    :param lifetime: seconds that signed URLs are good for.
    """

    bucket: str
    signing_key: str | None = None
    signing_account: str | None = None
    lifetime: int = 300
    options: Options = Options()  # noqa: RUF009
    patience: Patience = Patience()  # noqa: RUF009


def make_storage(
    reactor: Any,
    agent: IAgent,
    settings: BucketSettings,
    environ: Mapping[str, str],
    credentials: ICredentials | None = None,
) -> GcsStorage:
    """A storage that is not started yet.

    :param agent: what all requests go through; it is to keep its connections.
    :param environ: where Google's own variables are looked for.
    :param credentials: other ones than the default.
    """
    emulator = emulator_url(environ)
    if credentials is None:
        anonymous = emulator and not environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        credentials = Anonymous() if anonymous else GoogleCredentials(reactor)
    requests = Requests(reactor, agent, credentials, settings.patience)
    bucket = Bucket(requests, emulator or GOOGLE, settings.bucket)

    async def find_urls() -> Urls:
        return await _find_urls(reactor, bucket, credentials, settings)

    async def check(urls: Urls) -> list[str]:
        faults = await bucket_faults(bucket)
        if settings.options.redirect:
            faults += await signature_faults(reactor, agent, urls)
        return faults

    return GcsStorage(reactor, bucket, find_urls, check, settings.options)


def emulator_url(environ: Mapping[str, str]) -> str | None:
    """Where ``STORAGE_EMULATOR_HOST`` points, as Google's clients take it."""
    host = environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    if not host:
        return None
    return host if urlsplit(host).scheme in ("http", "https") else f"http://{host}"


async def _find_urls(
    reactor: Any, bucket: Bucket, credentials: ICredentials, settings: BucketSettings
) -> Urls:
    signer: Any = None
    if settings.signing_key and settings.signing_account:
        pool = reactor.getThreadPool()
        signer = await deferToThreadPool(
            reactor, pool, load_signer, settings.signing_key, settings.signing_account
        )
    elif isinstance(credentials, GoogleCredentials) and settings.options.redirect:
        signer = await credentials.signer()
    if signer is None:
        return PublicUrls(f"{bucket.base}/{bucket.name}")
    return SignedUrls(reactor, bucket.base, bucket.name, signer, settings.lifetime)
