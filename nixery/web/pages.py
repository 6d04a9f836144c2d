"""What a person sees who opens the registry's address."""

from twisted.web.server import Request

from nixery.web.request import host_of

_START = """\
Nixery: container images made on demand.

Name packages, and pull:

    docker pull {host}/shell/git/htop
    docker run -ti {host}/shell/git/htop

The image holds the packages git and htop, and, for "shell", bash and its friends.
"arm64/hello" is for 64-bit ARM; "python3packages.six" is a nested package.
"""


def start_page(request: Request) -> bytes:
    """The first pull to type, for the host that was asked."""
    body = _START.format(host=host_of(request)).encode("utf-8")
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body
