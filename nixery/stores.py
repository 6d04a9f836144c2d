"""The storage of images that settings choose, and the agent that reaches what is elsewhere."""

import os
from collections.abc import Mapping
from typing import Any

from twisted.web.iweb import IAgent

from nixery.setting_groups import S3Choice
from nixery.settings import Settings
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage

_CONNECTIONS = 16  # that are kept to one host


def make_agent(reactor: Any) -> IAgent:
    """An agent for HTTP requests, which keeps connections for a minute."""
    from twisted.web.client import Agent, HTTPConnectionPool

    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = _CONNECTIONS
    pool.cachedConnectionTimeout = 60
    return Agent(reactor, connectTimeout=10, pool=pool)


def make_storage(reactor: Any, settings: Settings, environ: Mapping[str, str]) -> Any:
    """The storage of images, not started yet."""
    chosen = settings.bucket
    if chosen is None or chosen.name is None:
        marks = os.path.join(settings.state, "verified.json")
        return FilesystemStorage(reactor, settings.storage_path, settings.disk, marks=marks)
    # Google's and Amazon's libraries take time and memory.
    from nixery.storage.objects.object_storage import ObjectOptions, ObjectStorage

    store: Any
    agent = make_agent(reactor)
    if isinstance(chosen, S3Choice):
        from nixery.storage.objects.aws_access import AwsProfile
        from nixery.storage.objects.s3 import S3Store
        from nixery.storage.objects.s3_requests import S3Bucket, S3Requests

        place = S3Bucket(chosen.name, chosen.prefix, chosen.public_endpoint)
        store = S3Store(reactor, S3Requests(reactor, agent, place, AwsProfile(environ)))
    else:
        from nixery.storage.objects.gcs import GcsBucket, GcsStore

        bucket = GcsBucket(chosen.name, chosen.signing_key, chosen.signing_account)
        store = GcsStore(reactor, agent, bucket, environ)
    options = ObjectOptions(redirect=settings.storage.redirect, url_lifetime=chosen.url_lifetime)
    return ObjectStorage(reactor, store, options)
