#!/bin/sh
# The same statements make files of other bytes with another version of SQLite, even if they are
# written with secure_delete and the header's counters and version are left out.
#
# A Nix store's database that is put into an image is not reproducible by a fixed order of
# statements and a fixed registration time: SQLite before 3.42 leaves what it had there in the
# space of a page that no cell takes. Who wants the same bytes everywhere has to empty that space.
#
# Seen with SQLite 3.40.1 and 3.42.0 (apsw 3.40.1.0 and 3.42.0.1) on Python 3.11. Exit code 0 if it
# is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/write.py" <<'PYTHON'
import hashlib

import apsw

PAGE = 4096
database = apsw.Connection(":memory:")
cursor = database.cursor()
list(cursor.execute(f"PRAGMA page_size = {PAGE}; PRAGMA secure_delete = ON"))
cursor.execute("CREATE TABLE Refs (referrer INTEGER, reference INTEGER, UNIQUE (referrer, reference))")
with database:
    cursor.executemany("INSERT INTO Refs VALUES (?, ?)", ((i, i + 1) for i in range(2000)))
content = bytearray(database.serialize("main"))
for counter in (24, 92, 96):
    content[counter : counter + 4] = bytes(4)
written = hashlib.sha256(content).hexdigest()
for page in range(0, len(content), PAGE):
    header = page or 100
    cells = int.from_bytes(content[header + 3 : header + 5], "big")
    start = header + (8 if content[header] in (10, 13) else 12) + 2 * cells
    end = page + int.from_bytes(content[header + 5 : header + 7], "big")
    content[start:end] = bytes(end - start)
print(written, hashlib.sha256(content).hexdigest())
PYTHON
for version in 3.40.1.0 3.42.0.1; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --only-binary :all: apsw==$version
    "$folder/$version/bin/python" "$folder/write.py" > "$folder/$version.txt"
    read -r written emptied < "$folder/$version.txt"
    echo "apsw $version: as written $(echo "$written" | cut -c1-12), with its unused space emptied" \
        "$(echo "$emptied" | cut -c1-12)"
done
read -r old old_emptied < "$folder/3.40.1.0.txt"
read -r new new_emptied < "$folder/3.42.0.1.txt"
[ "$old" != "$new" ] || { echo "changed: both write the same bytes"; exit 1; }
[ "$old_emptied" = "$new_emptied" ] || { echo "changed: more than unused space differs"; exit 1; }
