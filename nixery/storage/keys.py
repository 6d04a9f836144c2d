"""The keys of records and leases, the same in every backend."""

import re

_RECORD = re.compile(r"(builds|manifests)/[0-9a-f]{1,128}")
_LEASE = re.compile(r"[0-9a-f]{1,128}")


def check_record_key(key: str) -> str:
    """The key itself, which names nothing outside the two folders of records.

    :raises ValueError: for a key of any other form: what makes keys is at fault.
    """
    if _RECORD.fullmatch(key) is None:
        raise ValueError(f"{key!r} is not the key of a record")
    return key


def check_lease_key(key: str) -> str:
    """The key itself, which is one of a lease.

    :raises ValueError: for a key of any other form.
    """
    if _LEASE.fullmatch(key) is None:
        raise ValueError(f"{key!r} is not the key of a lease")
    return key
