"""Where to watch the build that an answer waits for, or that has failed."""

import re

from twisted.web.server import Request

from nixery.http.request import origin_of

# https://www.rfc-editor.org/rfc/rfc5989#section-3
_LINK = re.compile(rb'</builds/([0-9a-f]+)>; rel="monitor"')


def link_build(request: Request, id: str) -> None:
    """Let the answer to a request name a build."""
    request.setHeader(b"Link", f'</builds/{id}>; rel="monitor"'.encode("ascii"))


def build_url(request: Request) -> str | None:
    """The address of the build that the answer names, as the client would reach it.

    The request's ``Host`` was checked to be no more than a host.
    """
    (link,) = request.responseHeaders.getRawHeaders(b"link") or [b""]
    match = _LINK.fullmatch(link)
    if match is None:
        return None
    return f"{origin_of(request)}/builds/{match[1].decode('ascii')}"
