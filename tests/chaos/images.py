"""The images that are pulled, and the source that they are made from, which moves."""

import threading
from pathlib import Path

from tests.repository import Repository

REAL = (
    *("hello", "jq", "tree", "which", "file", "bc", "sqlite", "less", "curl", "zip", "xz"),
    *("gawk", "htop", "shell", "shell/git", "hello/jq", "tree/less", "zip/unzip", "ripgrep"),
    *("python3", "arm64/hello"),
)
OWN = {"quick": 0, "brief": 1, "moving": 2, "large": 1, "lengthy": 15}
"""Packages of the source's own → seconds that building them takes."""
LARGE = 30_000_000
"""Bytes of the layer that ``large`` has for its own."""
OF_ALL = "all platforms:"
"""What the name of an image begins with whose index is pulled, and the image of one platform."""
IMAGES = (
    *REAL,
    *(f"{OF_ALL}{name}" for name in ("jq", "shell/git", "zip/unzip")),
    *OWN,
    *("quick/hello", "brief/jq", "shell/moving", "quick/brief/moving"),
)
"""All that are pulled: thirty, and some as indexes."""
UNKNOWN = ("nosuchpackage", "hello/helo")
"""Names of no image: refused whatever else happens."""

_SET = """
{{ system ? builtins.currentSystem, config ? {{ }}, overlays ? [ ] }}:
let
  own = name: seconds: version: derivation {{
    name = "chaos-${{name}}-${{toString version}}"; inherit system; builder = "/bin/sh";
    CHAOS_MARK = "{mark}";
    args = [ "-c" ''
      i=0; while [ $i -lt ${{toString seconds}} ]; do
        i=$((i+1)); echo step $i; /bin/sleep 1
      done
      /bin/mkdir -p $out/bin; echo ${{toString version}} > $out/bin/${{name}}
      if [ ${{name}} = large ]; then
        /usr/bin/openssl enc -aes-128-ctr -nosalt -K 0 -iv ${{toString version}} \\
          < /dev/zero 2>/dev/null | /usr/bin/head -c {large} > $out/noise
      fi
      exit 0
    '' ];
  }};
in
import {packages} {{ inherit system; }} // {{
{lines}
}}
"""


class MovingSource:
    """A git repository with a package set whose packages change.

    What was pulled of one revision has the contents that :meth:`contents` knows it by.
    """

    def __init__(self, folder: Path, packages: Path, mark: str) -> None:
        """
        :param packages: a package set that never changes.
        :param mark: is in the environment of all builders.
        """
        self._repository = Repository(folder)
        self._packages = packages
        self._mark = mark
        # Every run builds its own packages: none is in the store from an earlier one.
        self._start = int(mark[:6], 16)
        self._versions = dict.fromkeys(OWN, self._start)
        self._known: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()
        self._commit()

    @property
    def url(self) -> str:
        return self._repository.url

    def contents(self, image: str, revision: str) -> tuple[str, ...]:
        """What decides the layers of an image's packages."""
        versions = self._known[revision]
        parts = image.split("/")
        return (image, *(f"{part} {versions[part]}" for part in parts if part in versions))

    def change_package(self, fraction: float) -> None:
        """A commit with another version of one package."""
        self.change(list(OWN)[int(fraction * len(OWN))])

    def change(self, name: str) -> None:
        """A commit with another version of a package that is named."""
        self._versions[name] += 1
        self._commit()

    def change_file(self, fraction: float) -> None:
        """A commit that changes a file which no package has to do with."""
        (self._repository.folder / "README").write_text(f"{fraction}")
        self._commit()

    def rewrite(self, fraction: float) -> None:
        """Another history in the branch's place, of one commit."""
        self._repository.git("checkout", "-q", "--orphan", "other")
        (self._repository.folder / "README").write_text(f"rewritten {fraction}")
        self._commit()
        self._repository.git("branch", "-q", "-M", "main")

    def _commit(self) -> None:
        lines = "\n".join(
            f'  {name} = own "{name}" {OWN[name]} {version};'
            for name, version in self._versions.items()
        )
        text = _SET.format(packages=self._packages, mark=self._mark, lines=lines, large=LARGE)
        with self._lock:
            # Nobody can have asked for it before it is known here.
            revision = self._repository.commit(text)
            self._known[revision] = dict(self._versions)
