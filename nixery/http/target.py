"""The target of a request, in each of the forms that RFC 9112 section 3.2 has: pure."""

import re

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


def split_target(target: bytes) -> tuple[bytes | None, bytes]:
    """Take a target apart.

    :return: the authority of one in absolute form, as clients send it that think of us as a proxy,
        none for the other forms; and path and query. What is in none of the forms stays as it is.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None, target
    authority, rest = match.groups()
    return authority, rest if rest.startswith(b"/") else b"/" + rest
