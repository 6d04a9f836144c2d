#!/bin/sh
# treq takes no user and password in a URL: it refuses the host.
#
# curl, requests and httpx send what stands before the @ as Basic credentials. treq parses the URL by
# hyperlink, whose text leaves the password out, and hands what is left, user and @ included, to
# Twisted, which takes it for the host's name: "invalid hostname: user:@127.0.0.1". So an operator's
# URL that other programs take fails, and nothing says that it is for its credentials. They have to
# be taken out, and given as auth=.
#
# Seen with Twisted 26.10.0, treq 26.7.0 and hyperlink 21.0.0 on Python 3.11. Exit code 0 if it is
# still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0 treq==26.7.0 hyperlink==21.0.0 \
    requests==2.32.5
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import requests
import treq
from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site


class Echo(Resource):
    """Answers with the Authorization header."""

    isLeaf = True

    def render_GET(self, request):
        return (request.getHeader("authorization") or "none").encode()


async def main(reactor):
    port = reactor.listenTCP(0, Site(Echo()), interface="127.0.0.1")
    place = f"127.0.0.1:{port.getHost().port}/"
    url = f"http://user:secret@{place}"
    for name in ("twisted", "treq", "hyperlink", "requests"):
        print(name, version(name))
    sent = await deferToThread(lambda: requests.get(url, timeout=10).text)
    print("requests sends:", sent)
    try:
        response = await treq.get(url, persistent=False)
        refused = ""
        print("treq sends:", await response.text())
    except ValueError as error:
        refused = str(error)
        print("treq refuses:", refused)
    response = await treq.get(f"http://{place}", auth=("user", "secret"), persistent=False)
    own = await response.text()
    print("treq sends with auth=:", own)
    still = refused.startswith("invalid hostname: user:@") and own == sent
    print("still so" if still else "it has changed")
    return 0 if still else 1


def run(reactor):
    done = ensureDeferred(main(reactor))
    return done.addCallback(lambda code: sys.exit(code) if code else None)


task.react(run)
PYTHON
