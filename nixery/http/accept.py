"""Media types that clients take, as they say in ``Accept``."""

from collections.abc import Sequence

from werkzeug.http import parse_accept_header

from nixery.http.request import RegistryRequest


def named_type(request: RegistryRequest, media_types: Sequence[str]) -> str:
    """The first of some media types that a client names as one that it takes; empty for none.

    ``*/*`` names none: programs send it that never thought of what else there is.
    """
    # Go's clients send a line for each type.
    lines = request.requestHeaders.getRawHeaders(b"accept", [])
    accepted = dict(parse_accept_header(b",".join(lines).decode("latin-1").lower()))
    return next((each for each in media_types if accepted.get(each)), "")
