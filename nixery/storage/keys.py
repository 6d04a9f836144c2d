"""The keys of records and leases, the same in every backend."""

import re

_RECORD = re.compile(r"(builds|manifests)/[0-9a-f]{1,128}")
_BLOB = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{32}")
_LEASE = re.compile(r"[0-9a-f]{1,128}")


def check_record_key(key: str) -> str:
    """The key itself, which names nothing outside the two folders of records.

    :raises ValueError: for a key of any other form: what makes keys is at fault.
    """
    if not is_record_key(key):
        raise ValueError(f"{key!r} is not the key of a record")
    return key


def check_lease_key(key: str) -> str:
    """The key itself, which is one of a lease.

    :raises ValueError: for a key of any other form.
    """
    if not is_lease_key(key):
        raise ValueError(f"{key!r} is not the key of a lease")
    return key


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
