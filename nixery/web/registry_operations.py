"""The registry API and the operations' paths, as OpenAPI describes them."""

from nixery.http.operation import Answers, Operation
from nixery.model.json_schema import array_of, object_of, schema_of
from nixery.model.manifest import INDEX_TYPE, MANIFEST_TYPE

PEM_TYPE = "application/x-pem-file"
_BYTES = "application/octet-stream"
_TEXT = schema_of(str)

VERSION = {b"GET": Operation({200: Answers("This is a registry.", {"type": "object"})})}
MANIFEST = {
    b"GET": Operation(
        {
            200: Answers("The manifest.", {"type": "object"}, MANIFEST_TYPE),
            307: Answers("It is being made: ask again where Location says.", media_type=""),
        }
    )
}
BLOB = {
    b"GET": Operation(
        {
            200: Answers("The blob.", media_type=_BYTES),
            206: Answers("The parts of it that were asked for.", media_type=_BYTES),
            307: Answers("It is where Location says.", media_type=""),
        }
    )
}
TAGS = {
    b"GET": Operation(
        {200: Answers("The tags.", object_of(name=_TEXT, tags=array_of(_TEXT)))},
        query={
            "n": "how many at most",
            "last": "only tags behind it; the Link header has the next page",
        },
    )
}
REFERRERS = {
    b"GET": Operation(
        {200: Answers("An index of them.", object_of(manifests=array_of({})), INDEX_TYPE)},
        query={"artifactType": "only artifacts of this type"},
    )
}
KEYS = {b"GET": Operation({200: Answers("The keys, in PEM.", media_type=PEM_TYPE)})}
