"""Multipart uploads by the API of S3."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from xml.etree import ElementTree

import attrs

from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.media import range_of
from tests.gcs.objects import Content
from tests.s3.answers import each, fields, moment, xml_answer
from tests.s3.objects import S3Objects, content_of, metadata_in, tag_of

_SUM = "x-amz-checksum-crc32c"


@attrs.define
class Upload:
    """An upload that is under way.

    :ivar has_sum: whether the object is to have a checksum, of all of it.
    """

    name: str
    metadata: dict[str, str]
    has_sum: bool
    started: float
    parts: dict[int, Content] = attrs.field(factory=dict)


@attrs.define
class S3Uploads:
    """The uploads that are under way.

    :ivar least: bytes of each part but the last one. S3 has 5 MiB, tests have less.
    :ivar open: by their ids.
    :ivar seen: the ids of all that there were.
    """

    objects: S3Objects
    least: int = 256 * 1024
    open: dict[str, Upload] = attrs.field(factory=dict)
    seen: list[str] = attrs.field(factory=list)

    def start(self, asked: Asked, name: str) -> Answer:
        """Begin an upload."""
        self.objects.demand("s3:PutObject")
        headers, upload_id = asked.headers, f"2~{secrets.token_urlsafe(24)}+/="
        has_sum = headers.get("x-amz-checksum-algorithm") == "CRC32C"
        if has_sum and headers.get("x-amz-checksum-type") != "FULL_OBJECT":
            raise Refused(501, "NotImplemented", "Only checksums of full objects are known here.")
        self.seen.append(upload_id)
        now = self.objects.bucket.clock.now()
        self.open[upload_id] = Upload(name, metadata_in(asked), has_sum, now)
        bucket = self.objects.bucket.name
        inner = fields(Bucket=bucket, Key=name, UploadId=upload_id)
        return xml_answer("InitiateMultipartUploadResult", inner)

    def find(self, asked: Asked) -> Upload:
        """
        :raises Refused: if there is no such upload any more.
        """
        upload = self.open.get(asked.query["uploadId"])
        if upload is None:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def part(self, asked: Asked) -> Answer:
        """Take a part; it replaces one of the same number."""
        self.objects.demand("s3:PutObject")
        if self.objects.bucket.full:
            raise Refused(403, "QuotaExceeded", "The quota of the bucket is used up.")
        upload, content = self.find(asked), content_of(asked.body)
        if upload.has_sum and _SUM not in asked.headers:
            raise Refused(400, "InvalidRequest", "The upload was begun with checksums.")
        self.objects.check_sum(asked, content)
        self._keep(asked, upload, content)
        return Answer(200, {"ETag": tag_of(content), _SUM: content.crc32c})

    def copy_part(self, asked: Asked) -> Answer:
        """Take a part of another object."""
        data = self.objects.source(asked).content.data
        start, end = range_of(asked.headers["x-amz-copy-source-range"], len(data))
        content = content_of(data[start:end])
        self._keep(asked, self.find(asked), content)
        inner = fields(ETag=tag_of(content), ChecksumCRC32C=content.crc32c)
        return xml_answer("CopyPartResult", inner)

    def _keep(self, asked: Asked, upload: Upload, content: Content) -> None:
        number = asked.number("partNumber") or 0
        if not 1 <= number <= 10_000:
            raise Refused(400, "InvalidArgument", "Part number must be from 1 to 10000")
        upload.parts[number] = content

    def finish(self, asked: Asked, name: str) -> Answer:
        """Make the object of its parts."""
        upload = self.find(asked)
        contents = self._named_parts(asked, upload)
        for content in contents[:-1]:
            if len(content.data) < self.least:
                raise Refused(400, "EntityTooSmall", "Your proposed upload is too small.")
        whole = content_of(*(content.data for content in contents))
        tags = "".join(map(tag_of, contents)).encode()
        tag = f'"{hashlib.md5(tags).hexdigest()}-{len(contents)}"'
        made = self.objects.put(asked, name, whole, upload.metadata, upload.has_sum, tag)
        del self.open[asked.query["uploadId"]]
        inner = fields(
            Key=name,
            ETag=self.objects.etag(made),
            ChecksumCRC32C=self.objects.stated(made).get(_SUM),
            ChecksumType="FULL_OBJECT",
        )
        return xml_answer("CompleteMultipartUploadResult", inner)

    def _named_parts(self, asked: Asked, upload: Upload) -> list[Content]:
        document = ElementTree.fromstring(asked.body)
        named = [
            (int(part.findtext("PartNumber") or 0), part.findtext("ETag"))
            for part in document.iter("Part")
        ]
        if not named or [number for number, _ in named] != sorted({n for n, _ in named}):
            raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        for number, tag in named:
            if number not in upload.parts or tag != tag_of(upload.parts[number]):
                raise Refused(400, "InvalidPart", f"Part {number} could not be found.")
        return [upload.parts[number] for number, _ in named]

    def cancel(self, asked: Asked) -> Answer:
        """Drop an upload."""
        self.objects.demand("s3:AbortMultipartUpload")
        self.find(asked)
        del self.open[asked.query["uploadId"]]
        return Answer(204)

    def list(self, asked: Asked) -> Answer:
        """A page of the uploads that are under way."""
        self.objects.demand("s3:ListBucketMultipartUploads")
        prefix, after = asked.query.get("prefix", ""), asked.query.get("upload-id-marker", "")
        found = sorted(
            (upload_id, upload)
            for upload_id, upload in self.open.items()
            if upload.name.startswith(prefix) and upload_id > after
        )
        page, rest = found[: self.objects.page], found[self.objects.page :]
        marks: Mapping[str, str] = {}
        if rest:
            marks = {"NextKeyMarker": page[-1][1].name, "NextUploadIdMarker": page[-1][0]}
        more = fields(IsTruncated=str(bool(rest)).lower(), **marks)
        items = (
            fields(Key=upload.name, UploadId=upload_id, Initiated=moment(upload.started))
            for upload_id, upload in page
        )
        return xml_answer("ListMultipartUploadsResult", more + each("Upload", items))


def lied(answer: Answer) -> Answer:
    """An answer that states another checksum."""
    headers = {**answer.headers}
    if _SUM in headers:
        headers[_SUM] = "AAAAAA=="
    body = re.sub(rb"(<ChecksumCRC32C>)[^<]*", rb"\1AAAAAA==", answer.body)
    return attrs.evolve(answer, headers=headers, body=body)
