"""Images for operators, as OpenAPI describes what is asked of them."""

from nixery.http.operation import Answers, Operation
from nixery.interfaces import Tidied
from nixery.model.contents import Contents
from nixery.model.image_summary import ImageSummary
from nixery.model.json_schema import array_of, object_of, schema_of
from nixery.model.tags import LATEST

PAGE, MOST = 100, 10_000
"""Images of a page: usually, and at most."""
_SUMMARY = schema_of(ImageSummary, leave_out=["blobs"], tag={"type": "string"})
_LIST = object_of(complete={"type": "boolean"}, images=array_of(_SUMMARY))
_RESULT = {
    "type": ["object", "null"],
    "description": "what came of its last verification: see /api/verifications",
}
_IMAGE = {"allOf": [_SUMMARY, object_of(contents=schema_of(Contents | None), verified=_RESULT)]}
_BEGUN = object_of(**{name: {"type": "string"} for name in ("name", "tag", "build")})
_WANTED_IMAGE = object_of(name={"type": "string"}) | {
    "properties": {"name": {"type": "string"}, "tag": {"type": "string", "default": LATEST}}
}

IMAGES = {
    b"GET": Operation(
        {200: Answers("The images.", _LIST)},
        "Stored images, most recently built or pulled first",
        {
            "n": f"how many; {PAGE} by default, {MOST} at most",
            "after": "a digest: only images after it; the Link header has the next page",
            "q": "words that the name, a tag or the digest must contain, all of them",
        },
    ),
    b"POST": Operation(
        {
            200: Answers("It is there; Location has its address.", _SUMMARY),
            202: Answers("It is being made; Location has the build's.", _BEGUN),
        },
        "Build an image, unless it is stored already",
        body=_WANTED_IMAGE,
    ),
}
IMAGE = {
    b"GET": Operation(
        {200: Answers("The image.", _IMAGE)},
        "An image, named by NAME:TAG, NAME@DIGEST or DIGEST, and what is in it",
    ),
    b"DELETE": Operation(
        {204: Answers("It is removed.", media_type="")},
        "Remove an image; blobs that others share, or that are being pulled, stay",
    ),
}
COLLECTION = {b"POST": Operation({200: Answers("It is done.", schema_of(Tidied))})}
