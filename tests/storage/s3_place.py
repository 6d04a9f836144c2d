"""A bucket of S3 for tests."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nixery.storage.objects.aws_access import AwsProfile
from nixery.storage.objects.s3 import S3Store
from nixery.storage.objects.s3_requests import S3Bucket, S3Requests
from tests.gcs.faults import Fault
from tests.s3.server import S3Server
from tests.storage.bucket_place import BucketPlace, Permission, Script, reactor


class S3Place(BucketPlace):
    """A bucket, for an access key in the environment."""

    server: S3Server
    permissions: ClassVar[Mapping[Permission, str]] = {
        "write": "s3:PutObject",
        "list": "s3:ListBucket",
    }
    lost_uploads: ClassVar[Sequence[Script]] = (
        {"upload_chunk": ["410"]},
        {"upload_chunk": [None, None, "410"]},
    )
    lie: ClassVar[Script] = {"upload_finish": ["lie"]}
    faults: ClassVar[Sequence[Fault]] = ("error-200",)

    def make_store(self, bucket: str | None = None) -> S3Store:
        return self.store_of(S3Bucket(bucket or "bucket"))

    def store_of(self, bucket: S3Bucket, **options: Any) -> S3Store:
        """A store for a bucket, or a part of one."""
        requests = S3Requests(reactor, self.agent, bucket, AwsProfile(os.environ))
        return S3Store(reactor, requests, **options)

    def forbid(self, *what: Permission) -> None:
        self.server.permissions -= {self.permissions[each] for each in what}

    def take_anybody(self) -> None:
        """The storage finds out the server's time by itself."""

    def secrets(self) -> Sequence[str]:
        return [self.server.key.id, self.server.key.secret, *self.server.uploads.seen]


@contextlib.asynccontextmanager
async def s3_place(folder: Path, setenv: Any) -> AsyncIterator[S3Place]:
    """A place that botocore finds in the environment.

    :param setenv: sets an environment variable for the length of the test.
    """
    server = S3Server()
    await server.start()
    for name, value in environ_of(server, folder).items():
        setenv(name, value)
    place = S3Place(server)
    try:
        yield place
    finally:
        await place.close()
        await server.stop()


def environ_of(server: S3Server, folder: Path) -> dict[str, str]:
    """The environment of who uses the server, and no file of this machine.

    :param folder: where no such file is.
    """
    return {
        "AWS_ENDPOINT_URL_S3": server.url,
        "AWS_ACCESS_KEY_ID": server.key.id,
        "AWS_SECRET_ACCESS_KEY": server.key.secret,
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
