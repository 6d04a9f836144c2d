"""The XML API, as far as signed URLs and public objects go."""

import attrs

from tests.gcs.accounts import Accounts
from tests.gcs.answers import Answer, Asked, Refused
from tests.gcs.media import content_answer, expected_checksums
from tests.gcs.objects import Bucket, Conditions, Content
from tests.gcs.signatures import check_payload, is_signed, verify

_CODES = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange", 403: "AccessDenied"}


@attrs.define
class XmlApi:
    """What is asked by ``/BUCKET/NAME``."""

    bucket: Bucket
    accounts: Accounts

    def read(self, asked: Asked, name: str) -> Answer:
        """An object's bytes, for whoever has a good URL; or for everybody, if they are public."""
        if is_signed(asked) or not self.bucket.public:
            self._authorise(asked, "storage.objects.get")
        try:
            found = self.bucket.find(name, asked.number("generation"))
            _conditions(asked).check(found, reading=True)
            return content_answer(found, asked)
        except Refused as refused:
            raise _in_xml(refused) from refused

    def write(self, asked: Asked, name: str) -> Answer:
        """Store an object by a good URL."""
        self._authorise(asked, "storage.objects.create")
        content = Content.of(asked.body)
        try:
            content.check(expected_checksums(asked, {}))
        except Refused as refused:
            raise attrs.evolve(refused, reason="BadDigest") from refused
        kind = asked.headers.get("content-type", "application/octet-stream")
        try:
            made = self.bucket.write(name, content, {"contentType": kind}, _conditions(asked))
        except Refused as refused:
            raise _in_xml(refused) from refused
        headers = {
            "ETag": f'"{made.etag}"',
            "x-goog-generation": str(made.generation),
            "x-goog-metageneration": "1",
            "x-goog-hash": f"crc32c={content.crc32c},md5={content.md5}",
            "x-goog-stored-content-length": str(len(content.data)),
        }
        return Answer(200, headers)

    def _authorise(self, asked: Asked, permission: str) -> None:
        """
        :raises Refused: if the URL isn't signed well, or the account may not do that.
        """
        if not is_signed(asked):
            details = {"Details": f"Anonymous caller does not have {permission} access."}
            raise Refused(403, "AccessDenied", "Access denied.", details=details)
        account = verify(asked, self.accounts.keys(), self.bucket.clock.now())
        check_payload(asked)
        if permission not in self.bucket.permissions:
            details = {"Details": f"{account} does not have {permission} access."}
            raise Refused(403, "AccessDenied", "Access denied.", details=details)


def _conditions(asked: Asked) -> Conditions:
    """The conditions in the headers.

    :raises Refused: if one is no number.
    """
    names = ("x-goog-if-generation-match", "x-goog-if-metageneration-match")
    values = [asked.headers.get(name) for name in names]
    if any(value is not None and not value.isdigit() for value in values):
        raise Refused(400, "InvalidArgument", "Invalid argument.")
    generation, metageneration = (None if value is None else int(value) for value in values)
    return Conditions(generation=generation, metageneration=metageneration)


def _in_xml(refused: Refused) -> Refused:
    """The error by the XML API's code."""
    return attrs.evolve(refused, reason=_CODES.get(refused.status, "InvalidArgument"))
