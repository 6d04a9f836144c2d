"""A bucket of Google Cloud Storage for tests."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nixery.storage.objects.gcs import GcsBucket, GcsStore
from tests.gcs.server import GcsServer
from tests.storage.bucket_place import BucketPlace, Permission, Script, reactor

BUCKET = GcsBucket("bucket")


class GcsPlace(BucketPlace):
    """A bucket, for credentials in a file."""

    server: GcsServer
    permissions: ClassVar[Mapping[Permission, str]] = {
        "write": "storage.objects.create",
        "list": "storage.objects.list",
    }
    lost_uploads: ClassVar[Sequence[Script]] = (
        {"upload_chunk": ["410"]},
        {"upload_chunk": ["drop-before"], "upload_status": ["410"]},
    )
    lie: ClassVar[Script] = {"upload_chunk": [None, None, "lie"]}

    def __init__(self, server: GcsServer, environ: Mapping[str, str]) -> None:
        super().__init__(server)
        self.environ = dict(environ)

    def make_store(self, bucket: str | None = None) -> GcsStore:
        return self.store_of(BUCKET if bucket is None else GcsBucket(bucket))

    def store_of(self, bucket: GcsBucket) -> GcsStore:
        """A store for a bucket, and what signs URLs of it."""
        return GcsStore(reactor, self.agent, bucket, self.environ)

    def forbid(self, *what: Permission) -> None:
        self.server.bucket.permissions -= {self.permissions[each] for each in what}

    def secrets(self) -> Sequence[str]:
        return [*self.server.accounts.tokens, *self.server.sessions.open]

    def take_anybody(self) -> None:
        self.server.needs_token = False
        del self.environ["GOOGLE_APPLICATION_CREDENTIALS"]


@contextlib.asynccontextmanager
async def gcs_place(folder: Path, setenv: Any) -> AsyncIterator[GcsPlace]:
    """A place whose credentials are a service account's file.

    :param setenv: sets an environment variable for the length of the test.
    """
    server = GcsServer()
    await server.start()
    path = folder / "account.json"
    server.account.write(path, server.token_uri)
    # Google's library reads the environment itself.
    setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    environ = {
        "STORAGE_EMULATOR_HOST": server.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(path),
    }
    place = GcsPlace(server, environ)
    try:
        yield place
    finally:
        await place.close()
        await server.stop()
