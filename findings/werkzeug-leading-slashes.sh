#!/bin/sh
# werkzeug's merge_slashes=False does not hold in front of a path.
#
# A Map that merges no slashes takes "/a//b" for another path than "/a/b", but "//a" for "/a": its
# adapter strips all slashes from the front before it looks. A server that decides anything by the
# beginning of the path itself, such as the form of its errors, sees another path than the router.
#
# Seen with werkzeug 3.1.9 on Python 3.11. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet werkzeug==3.1.9
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule

adapter = Map([Rule("/a/b", endpoint="found")], merge_slashes=False).bind("")
found = {}
for path in ("/a/b", "/a//b", "//a/b", "///a/b"):
    try:
        found[path], _ = adapter.match(path)
    except NotFound:
        found[path] = "not found"
print(f"werkzeug {version('werkzeug')}: {found}")
if found != {"/a/b": "found", "/a//b": "not found", "//a/b": "found", "///a/b": "found"}:
    sys.exit("changed")
PYTHON
