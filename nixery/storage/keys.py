"""The keys of records and leases, the same in every storage.

Of records::

    builds/<layer key>              the layer that was packed for it
    contents/<manifest digest>      the packages, store paths and layers of the image
    manifests/<image key>           the digest of the image's manifest
    provenance/<manifest digest>    what the image was made from, and the rest of its summary
    pulls/0                         how often images were pulled
    referrers/<manifest digest>     the artifacts that are attached to the image
    removed/<manifest digest>       the blobs of an image that was removed, until they are dropped
    served/<sha256 of a name>       the images that were served by that name
    verified/<manifest digest>      whether the image came out the same when it was made again
"""

import re

RECORDS = (
    *("builds", "contents", "manifests", "provenance", "pulls"),
    *("referrers", "removed", "served", "verified"),
)
"""The kinds of records, each with a folder of its own."""
_RECORD = re.compile(rf"({'|'.join(RECORDS)})/[0-9a-f]{{1,128}}")
_PREFIX = re.compile(rf"({'|'.join(RECORDS)})/[0-9a-f]{{0,128}}")
_BLOB = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{32}")
_LEASE = re.compile(r"[0-9a-f]{1,128}")


def check_record_key(key: str) -> str:
    """The key itself, which names nothing outside the folders of records.

    :raises ValueError: for a key of any other form: what makes keys is at fault.
    """
    return _checked(is_record_key(key), key, "record")


def check_record_prefix(prefix: str) -> str:
    """The prefix itself, which is that of the keys of one kind of records.

    :raises ValueError: for a prefix of any other form.
    """
    if _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"{prefix!r} is not a prefix of the keys of records")
    return prefix


def check_lease_key(key: str) -> str:
    """The key itself, which is one of a lease.

    :raises ValueError: for a key of any other form.
    """
    return _checked(is_lease_key(key), key, "lease")


def is_record_key(key: str) -> bool:
    """Whether a key has the form of a record's."""
    return _RECORD.fullmatch(key) is not None


def is_lease_key(key: str) -> bool:
    """Whether a key has the form of a lease's."""
    return _LEASE.fullmatch(key) is not None


def is_blob_name(name: str) -> bool:
    """Whether a name has the form of a blob's: the hexadecimal digits of its digest."""
    return _BLOB.fullmatch(name) is not None


def is_staged_name(name: str) -> bool:
    """Whether a name has the form of what is not whole yet: a UUID's hexadecimal digits."""
    return _UUID.fullmatch(name) is not None


def _checked(good: bool, key: str, kind: str) -> str:
    if not good:
        raise ValueError(f"{key!r} is not the key of a {kind}")
    return key
