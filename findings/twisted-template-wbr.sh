#!/bin/sh
# twisted.web.template closes a wbr element, which has no end tag.
#
# A wbr is where a long word may be broken, as in store paths and digests. HTML's other void elements
# (br, img, input, ...) are written as they should be: <br />. A wbr becomes <wbr></wbr>, whose second
# half is a parse error by the HTML standard, and what checks pages says so: the list of void elements
# in twisted/web/_stan.py has "wbs" where it means "wbr".
#
# Seen with Twisted 26.10.0 on Python 3.11. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet twisted==26.10.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from html.parser import HTMLParser
from importlib.metadata import version

from twisted.web.template import flattenString, tags

found = []


class Ends(HTMLParser):
    """Notes the end tags that stand alone in a page."""

    def __init__(self):
        super().__init__()
        self.alone = []

    def handle_endtag(self, tag):
        if tag in ("br", "wbr"):
            self.alone.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass


print("Twisted", version("twisted"))
page = tags.p("a", tags.br(), "b", tags.wbr(), "c")
flattenString(None, page).addCallback(lambda data: found.append(data.decode()))
print("written:", found[0])
parser = Ends()
parser.feed(found[0])
print("end tags of elements that have none:", parser.alone)
still = found == ["<p>a<br />b<wbr></wbr>c</p>"] and parser.alone == ["wbr"]
print("still so" if still else "it has changed")
sys.exit(0 if still else 1)
PYTHON
