"""A server that behaves as S3 where that matters, and verifies what fakes don't: signatures,
payloads' digests, checksums, conditions, the rules of multipart uploads.

Facts: https://docs.aws.amazon.com/AmazonS3/latest/API/.
"""

from collections.abc import Callable
from typing import Any

import attrs

from tests.gcs.answers import Answer, Asked, Refused, decode
from tests.gcs.bucket_server import BucketServer
from tests.gcs.faults import Fault, damage
from tests.s3.objects import S3Objects
from tests.s3.signatures import Key, is_presigned, verify
from tests.s3.uploads import S3Uploads, lied

PERMISSIONS = (
    *("s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
    *("s3:ListBucket", "s3:ListBucketMultipartUploads"),
)
_ERRORS = {
    "503": Refused(503, "SlowDown", "Please reduce your request rate."),
    "500": Refused(500, "InternalError", "We encountered an internal error. Please try again."),
    "429": Refused(429, "TooManyRequests", "Slow down.", headers={"Retry-After": "1"}),
    "401": Refused(400, "ExpiredToken", "The provided token has expired."),
    "410": Refused(404, "NoSuchUpload", "The specified upload does not exist."),
    "short": Refused(400, "IncompleteBody", "You did not provide all bytes."),
}
_LATE = Refused(200, "InternalError", "We encountered an internal error. Please try again.")


@attrs.frozen
class S3Route:
    """Where a request goes."""

    kind: str
    bucket: str
    name: str


class S3Server(BucketServer):
    """A bucket on a port of this machine.

    :ivar key: an access key that is known.
    :ivar keys: all that are, by their ids.
    :ivar region: that the bucket is in.
    """

    def __init__(self, bucket: str = "bucket") -> None:
        super().__init__(bucket, set())  # permissions have names of S3's own
        self.permissions = set(PERMISSIONS)
        self.api = S3Objects(self.bucket, self.permissions)
        self.uploads = S3Uploads(self.api)
        self.key = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
        self.keys = {self.key.id: self.key}
        self.region = "us-east-1"

    @property
    def unfinished(self) -> int:
        return len(self.uploads.open)

    def find_route(self, asked: Asked) -> S3Route:
        bucket, _, name = decode(asked.path.removeprefix("/")).partition("/")
        kind = _kind_of(asked, bool(name))
        if kind is None:
            raise Refused(405, "MethodNotAllowed", f"Not known here: {asked.method} {asked.path}")
        return S3Route(kind, bucket, name)

    def answer(self, route: S3Route, asked: Asked, fault: Fault | None) -> Answer:
        verify(asked, self.keys, self.region, self.clock.now())
        if route.bucket in self.foreign:
            raise Refused(403, "AccessDenied", "Access Denied")
        if route.bucket != self.bucket.name:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        if fault == "error-200":
            return _LATE.as_xml()
        answer = self._dispatch(route, asked)
        return lied(answer) if fault == "lie" else damage(answer, fault)

    def refusal(self, refused: Refused, route: Any | None) -> Answer:
        return refused.as_xml()

    def error(self, fault: Fault) -> Refused | None:
        return _ERRORS.get(fault)

    def cut_off(self, asked: Asked) -> None:
        """Nothing is kept of a part that is not whole."""

    def _dispatch(self, route: S3Route, asked: Asked) -> Answer:
        api, uploads, name = self.api, self.uploads, route.name
        handlers: dict[str, Callable[[], Answer]] = {
            "object.get": lambda: api.read(asked, name, is_head=True),
            "object.media": lambda: api.read(asked, name, is_head=False),
            "signed.get": lambda: api.read(asked, name, is_head=False),
            "object.delete": lambda: api.delete(asked, name),
            "object.list": lambda: api.list(asked),
            "object.rewrite": lambda: api.copy(asked, name),
            "upload.media": lambda: api.write(asked, name),
            "upload.start": lambda: uploads.start(asked, name),
            "upload.chunk": lambda: uploads.part(asked),
            "upload.copy": lambda: uploads.copy_part(asked),
            "upload.finish": lambda: uploads.finish(asked, name),
            "upload.cancel": lambda: uploads.cancel(asked),
            "upload.list": lambda: uploads.list(asked),
        }
        return handlers[route.kind]()


def _kind_of(asked: Asked, has_name: bool) -> str | None:
    query, is_copy = asked.query, "x-amz-copy-source" in asked.headers
    if not has_name:
        listing = "upload.list" if "uploads" in query else "object.list"
        return listing if asked.method == "GET" else None
    if asked.method == "GET":
        return "signed.get" if is_presigned(asked) else "object.media"
    if asked.method == "PUT" and "partNumber" in query:
        return "upload.copy" if is_copy else "upload.chunk"
    if asked.method == "POST":
        return "upload.start" if "uploads" in query else "upload.finish"
    return {
        "HEAD": "object.get",
        "PUT": "object.rewrite" if is_copy else "upload.media",
        "DELETE": "upload.cancel" if "uploadId" in query else "object.delete",
    }.get(asked.method)
