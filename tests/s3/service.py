"""A program that speaks like S3, with a bucket, for end-to-end tests."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from tests.waiting import wait_until


@attrs.frozen
class S3Service:
    """A service with a bucket, by botocore's own client.

    :ivar url: without a slash at its end.
    :ivar log: the file with its log.
    :ivar key: the environment variables with its key.
    """

    url: str
    bucket: str
    client: Any
    log: Path
    key: dict[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """The settings by which a daemon keeps its images there."""
        return {"AWS_ENDPOINT_URL_S3": self.url, "S3_BUCKET": self.bucket, **self.key}

    def where(self, name: str) -> str:
        """An object's URL, without what signs it."""
        return f"{self.url}/{self.bucket}/{name}"

    def names(self, prefix: str = "") -> list[str]:
        """The names of the bucket's objects."""
        pages = self.client.get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in found for item in page.get("Contents", ())]

    def content(self, name: str) -> bytes:
        """An object's bytes."""
        found = self.client.get_object(Bucket=self.bucket, Key=name)
        content: bytes = found["Body"].read()
        return content

    def overwrite(self, name: str, content: bytes | None) -> None:
        """Have other bytes in an object, or no object, as somebody else would."""
        if content is None:
            self.client.delete_object(Bucket=self.bucket, Key=name)
        else:
            self.client.put_object(Bucket=self.bucket, Key=name, Body=content)

    def uploads(self) -> int:
        """How many uploads are under way."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket)
        return len(found.get("Uploads", ()))

    def clear(self) -> None:
        """Delete all objects."""
        for name in self.names():
            self.overwrite(name, None)


def service_at(
    url: str, bucket: str, process: "subprocess.Popen[bytes]", key: dict[str, str], log: Path
) -> S3Service:
    """A service that is just starting, with a new bucket."""
    client = botocore.session.Session().create_client(
        "s3",
        "us-east-1",
        endpoint_url=url,
        aws_access_key_id=key["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )

    def is_made() -> bool:
        assert process.poll() is None, "the service ended"
        with suppress(BotoCoreError):
            client.create_bucket(Bucket=bucket)
            return True
        return False

    wait_until(is_made)
    return S3Service(url, bucket, client, log, key)
