"""A bucket's objects: generations, preconditions, checksums. Nothing of HTTP's connections."""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import google_crc32c

from tests.gcs.answers import Asked, Refused, encode

WRITABLE = ("contentType", "cacheControl", "contentEncoding", "contentDisposition", "metadata")
_LONGEST_NAME = 1024


@attrs.define
class Clock:
    """The server's clock, which tests may set.

    :ivar offset: seconds by which it is ahead of this machine's.
    :ivar frozen: the moment it stands still at, in seconds since 1970.
    """

    offset: float = 0
    frozen: float | None = None

    def now(self) -> float:
        """Seconds since 1970."""
        return self.offset + (time.time() if self.frozen is None else self.frozen)


def crc32c_text(crc: int) -> str:
    """A CRC32C as Google writes it."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def time_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@attrs.frozen
class Content:
    """Bytes with their checksums, which are of what was received."""

    data: bytes = attrs.field(repr=False)
    crc32c: str
    md5: str

    @classmethod
    def of(cls, data: bytes) -> "Content":
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        return cls(data, crc32c_text(google_crc32c.value(data)), md5)

    def check(self, expected: Mapping[str, str]) -> None:
        """Compare with the checksums that a client gave, by ``crc32c`` and ``md5``.

        :raises Refused: if one is another.
        """
        for name, actual in (("crc32c", self.crc32c), ("md5", self.md5)):
            if expected.get(name, actual) != actual:
                message = f"Provided {name.upper()} {expected[name]!r} doesn't match calculated "
                raise Refused(400, "invalid", message + f"{name.upper()} {actual!r}.")


@attrs.frozen
class StoredObject:
    """A generation of an object.

    :ivar fields: what a client may set, by its JSON name.
    """

    name: str
    content: Content
    generation: int
    created: float
    updated: float
    metageneration: int = 1
    fields: Mapping[str, Any] = attrs.field(factory=dict)

    def document(self, bucket: str, url: str) -> dict[str, Any]:
        """The object as the JSON API describes it."""
        path = f"/storage/v1/b/{bucket}/o/{encode(self.name)}"
        media = f"{url}/download{path}?generation={self.generation}&alt=media"
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "selfLink": f"{url}{path}",
            "mediaLink": media,
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(len(self.content.data)),
            "md5Hash": self.content.md5,
            "crc32c": self.content.crc32c,
            "etag": self.etag,
            "timeCreated": time_text(self.created),
            "updated": time_text(self.updated),
            "timeStorageClassUpdated": time_text(self.created),
            **self.fields,
        }

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


@attrs.frozen
class Conditions:
    """What has to hold for a request to be done; numbers, or nothing."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, asked: Asked, prefix: str = "if") -> "Conditions":
        """The conditions of a query: ``ifGenerationMatch`` and its kin."""
        names = ("Generation", "Generation", "Metageneration", "Metageneration")
        ends = ("Match", "NotMatch") * 2
        pairs = zip(names, ends, strict=True)
        return cls(*(asked.number(f"{prefix}{name}{end}") for name, end in pairs))

    def check(self, found: StoredObject | None, reading: bool = False) -> None:
        """Compare with what is there; an object that isn't has generation 0.

        :param reading: whether a forbidden match means that nothing changed (304).
        :raises Refused: if a condition doesn't hold.
        """
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        for wanted, actual in (
            (self.generation, generation),
            (self.metageneration, metageneration),
        ):
            if wanted is not None and wanted != actual:
                message = "At least one of the pre-conditions you specified did not hold."
                raise Refused(412, "conditionNotMet", message)
        for forbidden, actual in (
            (self.not_generation, generation),
            (self.not_metageneration, metageneration),
        ):
            if forbidden is not None and forbidden == actual:
                status = 304 if reading else 412
                raise Refused(status, "conditionNotMet", "Precondition Failed")


@attrs.define
class Bucket:
    """A bucket, and what it lets be done.

    :ivar permissions: what every known account may do in it.
    :ivar public: whether everybody may read objects.
    :ivar full: whether whatever needs room is refused.
    :ivar before_write: called with an object's name after the first check of a write's
        conditions, before the second one.
    """

    name: str
    clock: Clock
    objects: dict[str, StoredObject] = attrs.field(factory=dict)
    permissions: set[str] = attrs.field(factory=set)
    public: bool = False
    full: bool = False
    before_write: Callable[[str], None] | None = None
    _generation: int = 0

    def demand(self, permission: str) -> None:
        """
        :raises Refused: if that is not permitted.
        """
        if permission not in self.permissions:
            message = f"The caller does not have {permission} access to the bucket or object."
            raise Refused(403, "forbidden", message)

    def find(self, name: str, generation: int | None = None) -> StoredObject:
        """
        :raises Refused: if there is no such object, or not of that generation. Who may not list
            a bucket isn't told that.
        """
        found = self.objects.get(name)
        if found is None or generation not in (None, found.generation):
            if found is None:
                self.demand("storage.objects.list")
            raise Refused(404, "notFound", f"No such object: {self.name}/{name}")
        return found

    def check_write(self, name: str, conditions: Conditions) -> None:
        """
        :raises Refused: if an object may not be written, now.
        """
        if not 0 < len(name.encode()) <= _LONGEST_NAME or "\n" in name or "\r" in name:
            raise Refused(400, "invalid", "Invalid object name")
        self.demand("storage.objects.create")
        if name in self.objects and conditions.generation is None:
            self.demand("storage.objects.delete")
        if self.full:
            message = "The storage quota of the project is used up."
            raise Refused(403, "quotaExceeded", message, domain="usageLimits")
        conditions.check(self.objects.get(name))

    def write(
        self,
        name: str,
        content: Content,
        fields: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
    ) -> StoredObject:
        """Make a new generation of an object, if the conditions still hold.

        :raises Refused: if it may not be written.
        """
        conditions = conditions or Conditions()
        self.check_write(name, conditions)
        if self.before_write is not None:
            self.before_write(name)
        self.check_write(name, conditions)
        return self.put(name, content, fields)

    def put(
        self, name: str, content: Content, fields: Mapping[str, Any] | None = None
    ) -> StoredObject:
        """Make a new generation of an object, whatever is permitted."""
        now = self.clock.now()
        self._generation = max(self._generation + 1, int(now * 1_000_000))
        writable = {key: value for key, value in (fields or {}).items() if key in WRITABLE}
        made = StoredObject(name, content, self._generation, now, now, fields=writable)
        self.objects[name] = made
        return made

    def patch(self, name: str, changes: Mapping[str, Any]) -> StoredObject:
        """Change an object's fields; those that are set to nothing go."""
        old = self.find(name)
        fields = dict(old.fields)
        for key in WRITABLE:
            if key not in changes:
                continue
            value = changes[key]
            if key == "metadata" and value is not None:
                merged = {**fields.get("metadata", {}), **value}
                value = {label: text for label, text in merged.items() if text is not None}
            fields[key] = value
        fields = {key: value for key, value in fields.items() if value is not None}
        count = old.metageneration + 1
        new = attrs.evolve(old, fields=fields, metageneration=count, updated=self.clock.now())
        self.objects[name] = new
        return new
