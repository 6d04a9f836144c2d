"""The JSON API: objects and buckets. Uploads have their own module."""

import re
import secrets
from typing import Any

import attrs

from tests.gcs.answers import Answer, Asked, Refused, json_answer
from tests.gcs.media import content_answer
from tests.gcs.objects import Bucket, Conditions, StoredObject

_MOST = 1000
"""Objects in one page of a list."""


@attrs.define
class JsonApi:
    """What is asked of a bucket and its objects.

    :ivar rewrite_calls: how many calls it takes until a rewrite is done.
    """

    bucket: Bucket
    url: str = ""
    rewrite_calls: int = 1
    _rewrites: dict[str, tuple[str, str, int]] = attrs.field(factory=dict)

    def describe(self, found: StoredObject, asked: Asked, status: int = 200) -> Answer:
        """An answer with an object's document."""
        document = found.document(self.bucket.name, self.url)
        return json_answer(select(document, asked.query.get("fields")), status)

    def get(self, asked: Asked, name: str) -> Answer:
        """An object's document."""
        return self.describe(self._read(asked, name), asked)

    def media(self, asked: Asked, name: str) -> Answer:
        """An object's bytes."""
        return content_answer(self._read(asked, name), asked)

    def delete(self, asked: Asked, name: str) -> Answer:
        """Delete an object."""
        self.bucket.demand("storage.objects.delete")
        found = self.bucket.find(name, asked.number("generation"))
        Conditions.of(asked).check(found)
        del self.bucket.objects[name]
        return Answer(204)

    def patch(self, asked: Asked, name: str) -> Answer:
        """Change an object's fields."""
        self.bucket.demand("storage.objects.update")
        found = self.bucket.find(name, asked.number("generation"))
        Conditions.of(asked).check(found)
        return self.describe(self.bucket.patch(name, asked.document()), asked)

    def copy(self, asked: Asked, source: str, target: str) -> Answer:
        """Copy an object, in one call."""
        found = self._source(asked, source)
        return self.describe(self._copied(asked, found, target), asked)

    def rewrite(self, asked: Asked, source: str, target: str) -> Answer:
        """Copy an object, in as many calls as it takes."""
        found = self._source(asked, source)
        self.bucket.check_write(target, Conditions.of(asked))
        calls = self._call(asked, source, target)
        size = str(len(found.content.data))
        document: dict[str, Any] = {"kind": "storage#rewriteResponse", "objectSize": size}
        if calls < self.rewrite_calls:
            token = secrets.token_urlsafe(24)
            self._rewrites[token] = (source, target, calls)
            written = str(len(found.content.data) * calls // self.rewrite_calls)
            document |= {"done": False, "rewriteToken": token, "totalBytesRewritten": written}
            return json_answer(document)
        made = self._copied(asked, found, target)
        resource = made.document(self.bucket.name, self.url)
        document |= {"done": True, "totalBytesRewritten": size, "resource": resource}
        return json_answer(select(document, asked.query.get("fields")))

    def list(self, asked: Asked) -> Answer:
        """A page of the bucket's objects, in the order of their names."""
        self.bucket.demand("storage.objects.list")
        prefix = asked.query.get("prefix", "")
        start = max(asked.query.get("pageToken", ""), asked.query.get("startOffset", ""))
        most = min(asked.number("maxResults") or _MOST, _MOST)
        names = sorted(name for name in self.bucket.objects if name.startswith(prefix))
        delimiter = asked.query.get("delimiter")
        entries = list(dict.fromkeys(_folded(name, prefix, delimiter) for name in names))
        end = asked.query.get("endOffset")
        entries = [name for name in entries if name >= start and (not end or name < end)]
        page, rest = entries[:most], entries[most:]
        folded = [entry for entry in page if delimiter and entry not in self.bucket.objects]
        objects = [self.bucket.objects[name] for name in page if name not in folded]
        document: dict[str, Any] = {"kind": "storage#objects"}
        if objects:
            document["items"] = [found.document(self.bucket.name, self.url) for found in objects]
        if folded:
            document["prefixes"] = folded
        if rest:
            document["nextPageToken"] = rest[0]
        return json_answer(select(document, asked.query.get("fields")))

    def describe_bucket(self, asked: Asked) -> Answer:
        """The bucket's document."""
        self.bucket.demand("storage.buckets.get")
        name = self.bucket.name
        document = {
            "kind": "storage#bucket",
            "id": name,
            "name": name,
            "selfLink": f"{self.url}/storage/v1/b/{name}",
            "location": "EU",
            "storageClass": "STANDARD",
            "metageneration": "1",
        }
        return json_answer(select(document, asked.query.get("fields")))

    def test_permissions(self, asked: Asked) -> Answer:
        """Which of some permissions there are."""
        names = re.findall(r"permissions=([A-Za-z.]+)", asked.raw_query)
        held = [name for name in names if name in self.bucket.permissions]
        document: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
        return json_answer(document | ({"permissions": held} if held else {}))

    def _read(self, asked: Asked, name: str) -> StoredObject:
        self.bucket.demand("storage.objects.get")
        found = self.bucket.find(name, asked.number("generation"))
        Conditions.of(asked).check(found, reading=True)
        return found

    def _source(self, asked: Asked, name: str) -> StoredObject:
        self.bucket.demand("storage.objects.get")
        found = self.bucket.find(name, asked.number("sourceGeneration"))
        Conditions.of(asked, "ifSource").check(found)
        return found

    def _copied(self, asked: Asked, found: StoredObject, target: str) -> StoredObject:
        """A copy; the fields are the source's if the body names none."""
        fields = asked.document() or found.fields
        return self.bucket.write(target, found.content, fields, Conditions.of(asked))

    def _call(self, asked: Asked, source: str, target: str) -> int:
        """Which call of a rewrite this is, from 1."""
        token = asked.query.get("rewriteToken")
        if token is None:
            return 1
        begun = self._rewrites.get(token)
        if begun is None or begun[:2] != (source, target):
            raise Refused(400, "invalid", "Invalid rewrite token.")
        return begun[2] + 1


def select(document: dict[str, Any], fields: str | None) -> dict[str, Any]:
    """The part of a document that ``fields`` names: ``name,items(name,size)``.

    :raises Refused: if there is no such field in any answer.
    """
    if not fields or fields == "*":
        return document
    if re.fullmatch(r"[\w,/()*]+", fields) is None:
        raise Refused(400, "invalidParameter", f"Invalid field selection {fields}")
    chosen: dict[str, Any] = {}
    for name, inner in re.findall(r"(\w+)(?:\(([^()]*)\)|/[\w/]+)?", fields):
        value = document.get(name)
        if isinstance(value, list) and inner:
            chosen[name] = [select(item, inner) for item in value]
        elif isinstance(value, dict) and inner:
            chosen[name] = select(value, inner)
        elif value is not None:
            chosen[name] = value
    return chosen


def _folded(name: str, prefix: str, delimiter: str | None) -> str:
    """A name, or as much of it as comes before a delimiter behind the prefix."""
    head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
    return prefix + head + found if found else name
