"""A bucket's objects by the API of S3."""

import hashlib
import re
from email.utils import formatdate
from urllib.parse import unquote

import attrs
import google_crc32c

from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.media import range_of
from tests.gcs.objects import Bucket, Content, StoredObject, crc32c_text
from tests.s3.answers import each, fields, moment, xml_answer

_META = "x-amz-meta-"
_SUM = "x-amz-checksum-crc32c"
_LARGEST_COPY = 5 * 1024**3


@attrs.define
class S3Objects:
    """What is asked of objects.

    :ivar lacks: what the service does not have: ``creates``, ``replaces``, ``deletes`` (conditions
        of them), ``checksums``; or ``quotes``, if it compares ETags with none around them.
    :ivar permissions: what the known keys may do.
    :ivar page: objects in a page of a list.
    """

    bucket: Bucket
    permissions: set[str]
    lacks: set[str] = attrs.field(factory=set)
    page: int = 1000
    _tags: dict[int, str] = attrs.field(factory=dict)

    def demand(self, permission: str) -> None:
        """
        :raises Refused: if that is not permitted.
        """
        if permission not in self.permissions:
            raise Refused(403, "AccessDenied", f"not authorized to perform: {permission}")

    def etag(self, found: StoredObject) -> str:
        """An object's ETag, in quotes."""
        return self._tags.get(found.generation) or tag_of(found.content)

    def find(self, name: str) -> StoredObject:
        """
        :raises Refused: if there is no such object; who may not list is not told that.
        """
        self.demand("s3:GetObject")
        found = self.bucket.objects.get(name)
        if found is None:
            self.demand("s3:ListBucket")
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        return found

    def read(self, asked: Asked, name: str, is_head: bool) -> Answer:
        """An object, or the range of it that is asked for."""
        found = self.find(name)
        wanted = asked.headers.get("if-match")
        if wanted not in (None, self.etag(found)):
            raise Refused(412, "PreconditionFailed", "A pre-condition did not hold.")
        metadata = found.fields.get("metadata", {})
        headers = {
            "Content-Type": "application/octet-stream",
            "ETag": self.etag(found),
            "Last-Modified": formatdate(found.updated, usegmt=True),
            **{f"{_META}{key}": value for key, value in metadata.items()},
        }
        asks_for_it = asked.headers.get("x-amz-checksum-mode") == "ENABLED"
        if asks_for_it and "checksums" not in self.lacks and self._has_sum(found):
            headers[_SUM] = found.content.crc32c
        data, span = found.content.data, asked.headers.get("range")
        if span is None or is_head:
            return Answer(200, headers, data, content=not is_head)
        start, end = range_of(span, len(data))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return Answer(206, headers, data[start:end], content=True)

    def _has_sum(self, found: StoredObject) -> bool:
        return found.fields.get("contentEncoding") != "without"

    def write(self, asked: Asked, name: str) -> Answer:
        """Write an object in one request."""
        content = content_of(asked.body)
        self.check_sum(asked, content)
        made = self.put(asked, name, content, metadata_in(asked), _SUM in asked.headers)
        return Answer(200, {"ETag": self.etag(made), **self.stated(made)})

    def put(
        self,
        asked: Asked,
        name: str,
        content: Content,
        metadata: dict[str, str],
        has_sum: bool,
        tag: str | None = None,
    ) -> StoredObject:
        """Make an object, if the conditions of a request hold.

        :param has_sum: whether its checksum is kept.
        :param tag: its ETag, if it is not of one part.
        :raises Refused: if it may not be written.
        """
        self.demand("s3:PutObject")
        if self.bucket.full:
            raise Refused(403, "QuotaExceeded", "The quota of the bucket is used up.")
        for _ in range(2):
            self._check_conditions(asked, name)
            if self.bucket.before_write is not None:
                self.bucket.before_write(name)
        kept = {"metadata": metadata} | ({} if has_sum else {"contentEncoding": "without"})
        made = self.bucket.put(name, content, kept)
        if tag is not None:
            self._tags[made.generation] = tag
        return made

    def stated(self, found: StoredObject) -> dict[str, str]:
        """The checksum, as the header of an answer."""
        if "checksums" in self.lacks or not self._has_sum(found):
            return {}
        return {_SUM: found.content.crc32c}

    def check_sum(self, asked: Asked, content: Content) -> None:
        """
        :raises Refused: if the content has another checksum than its sender says.
        """
        said = asked.headers.get(_SUM, content.crc32c)
        if "checksums" not in self.lacks and said != content.crc32c:
            raise Refused(400, "BadDigest", "The CRC32C you specified did not match.")

    def _check_conditions(self, asked: Asked, name: str) -> None:
        absent = asked.headers.get("if-none-match") == "*" and "creates" not in self.lacks
        if absent and name in self.bucket.objects:
            raise Refused(412, "PreconditionFailed", "A pre-condition did not hold.")
        if "quotes" in self.lacks and "if-match" in asked.headers:
            raise Refused(412, "PreconditionFailed", "A pre-condition did not hold.")
        if "replaces" not in self.lacks:
            self._check_match(asked, name)

    def _check_match(self, asked: Asked, name: str) -> None:
        found, wanted = self.bucket.objects.get(name), asked.headers.get("if-match")
        if wanted is None:
            return
        if found is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if wanted != self.etag(found):
            raise Refused(412, "PreconditionFailed", "A pre-condition did not hold.")

    def copy(self, asked: Asked, name: str) -> Answer:
        """Copy an object within the bucket."""
        found = self.source(asked)
        if len(found.content.data) > _LARGEST_COPY:
            raise Refused(400, "InvalidRequest", "The source is larger than 5 GiB.")
        if asked.headers.get("x-amz-metadata-directive") != "REPLACE":
            raise Refused(400, "NotImplemented", "Only copies with new metadata are known here.")
        has_sum = "x-amz-checksum-algorithm" in asked.headers or self._has_sum(found)
        tag = self._tags.get(found.generation)
        made = self.put(asked, name, found.content, metadata_in(asked), has_sum, tag)
        inner = fields(
            ETag=self.etag(made),
            LastModified=moment(made.updated),
            ChecksumCRC32C=self.stated(made).get(_SUM),
        )
        return xml_answer("CopyObjectResult", inner)

    def source(self, asked: Asked) -> StoredObject:
        """
        :raises Refused: if the source of a copy is not there, or another one.
        """
        source = unquote(asked.headers["x-amz-copy-source"]).removeprefix("/")
        bucket, _, name = source.partition("/")
        if bucket != self.bucket.name:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        found = self.find(name)
        if asked.headers.get("x-amz-copy-source-if-match") not in (None, self.etag(found)):
            raise Refused(412, "PreconditionFailed", "A pre-condition did not hold.")
        return found

    def delete(self, asked: Asked, name: str) -> Answer:
        """Delete an object; one that is not there is no fault."""
        self.demand("s3:DeleteObject")
        if "deletes" not in self.lacks:
            self._check_match(asked, name)
        self.bucket.objects.pop(name, None)
        return Answer(204)

    def list(self, asked: Asked) -> Answer:
        """A page of the bucket's objects, in the order of their names."""
        self.demand("s3:ListBucket")
        query = asked.query
        most = min(asked.number("max-keys") or self.page, self.page)
        start = query.get("continuation-token", "").removeprefix("after+/")
        prefix = query.get("prefix", "")
        names = [n for n in sorted(self.bucket.objects) if n.startswith(prefix) and n > start]
        page = names[:most]
        items = each(
            "Contents",
            (
                fields(
                    Key=name,
                    LastModified=moment(self.bucket.objects[name].updated),
                    ETag=self.etag(self.bucket.objects[name]),
                    Size=len(self.bucket.objects[name].content.data),
                )
                for name in page
            ),
        )
        rest = names[most:]
        token = f"after+/{page[-1]}" if rest else None
        more = fields(IsTruncated=str(bool(rest)).lower(), NextContinuationToken=token)
        return xml_answer("ListBucketResult", more + items)


def content_of(*pieces: bytes) -> Content:
    """Bytes with their CRC32C; nothing here needs their MD5."""
    crc = 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
    return Content(b"".join(pieces), crc32c_text(crc), "")


def tag_of(content: Content) -> str:
    """The ETag of an object or a part, in quotes: of the same content it is the same."""
    return f'"{hashlib.md5(f"{content.crc32c}{len(content.data)}".encode()).hexdigest()}"'


def metadata_in(asked: Asked) -> dict[str, str]:
    """The metadata in a request."""
    return {
        re.sub(f"^{_META}", "", name): value
        for name, value in asked.headers.items()
        if name.startswith(_META)
    }
