"""How fast the package search is, and what making its index costs everybody else.

Run by ``make bench``. The set is made up: as many packages as nixpkgs has with its nested sets,
with words as often as those of a language are; beside it are the tests' packages.
"""

import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import make_package_set
from tests.repository import Repository

PACKAGES = 100_000
NESTED = 20  # sets that half of them are in
QUERIES = 200
AT_ONCE = 120
GOAL = 50  # ms
LETTERS = "abcdefghijklmnopqrstuvwxyz"

_MEMBERS = """
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ] }:
let
  lines = builtins.filter builtins.isString (builtins.split "\\n" (builtins.readFile ./packages));
  make = line: let fields = builtins.fromJSON line; in {
    name = builtins.elemAt fields 0;
    value = {
      type = "derivation"; name = "${builtins.elemAt fields 0}-1.${builtins.elemAt fields 2}";
      meta.description = builtins.elemAt fields 1;
    };
  };
  all = map make lines;
  some = from: to: builtins.genList (n: builtins.elemAt all (from + n)) (to - from);
  set = from: to: builtins.listToAttrs (some from to);
  half = builtins.length all / 2;
  part = half / NESTED;
  nested = n: {
    name = "set${toString n}";
    value = { recurseForDerivations = true; } // set (half + n * part) (half + n * part + part);
  };
in
set 0 half // builtins.listToAttrs (builtins.genList nested NESTED)
""".replace("NESTED", str(NESTED))
_SET = """
args: import <tests/test-pkgs> args // {
  made-up = { recurseForDerivations = true; } // import ./made-up { };
}
"""


class Language:
    """Words, the first of which are the most frequent."""

    def __init__(self) -> None:
        self.random = random.Random(1)
        lengths = (self.random.randint(2, 10) for _ in range(30_000))
        self.words = ["".join(self.random.choices(LETTERS, k=length)) for length in lengths]
        self._weights = list(accumulate(1 / (place + 3) for place in range(len(self.words))))

    def some(self, count: int) -> list[str]:
        """Words as they come in a text."""
        return self.random.choices(self.words, cum_weights=self._weights, k=count)


def wide_set(folder: Path, language: Language, packages: int) -> Repository:
    """The tests' set with many packages more, which can be found but not made."""
    repository = Repository(folder)
    _write_set(folder / "made-up", language, packages)
    repository.commit(_SET)
    return repository


def _write_set(folder: Path, language: Language, packages: int) -> None:
    folder.mkdir()
    lines = []
    for number in range(packages):
        name = f"{'-'.join(language.some(2))}{number}"
        lines.append(f'["{name}","{" ".join(language.some(9))}","{number}"]')
    (folder / "packages").write_text("\n".join(lines), "ascii")
    (folder / "default.nix").write_text(_MEMBERS, "utf-8")


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def show(name: str, times: list[float]) -> None:
    cuts = statistics.quantiles(times, n=100)
    known = f"median {cuts[49]:6.2f} ms   p99 {cuts[98]:6.2f} ms   most {max(times):6.2f} ms"
    print(f"  {name:20} {known}")


def make_index(daemon: Daemon) -> None:
    """The index is made while others ask for something else."""
    memory = psutil.Process(daemon.process.pid)
    before = memory.memory_info().rss
    idle = [milliseconds(lambda: daemon.get("/v2/")) for _ in range(QUERIES)]
    began = time.perf_counter()
    meanwhile = []
    while (answer := daemon.get("/packages?q=x")).status == 202:
        meanwhile += [milliseconds(lambda: daemon.get("/v2/")) for _ in range(10)]
        time.sleep(0.02)
    found: Any = answer.json()
    print(f"index of {found['count']} packages: made in {time.perf_counter() - began:.1f} s")
    print(f"  memory {(memory.memory_info().rss - before) / 1e6:.0f} MB more")
    show("GET /v2/, idle", idle)
    show("GET /v2/, meanwhile", meanwhile)


def search(daemon: Daemon, language: Language) -> None:
    """Searches for rare words, for frequent ones, and for beginnings of words."""
    frequent = language.words[:50]
    kinds = {
        "one word": [" ".join(language.some(1)) for _ in range(QUERIES)],
        "two words": [" ".join(language.some(2)) for _ in range(QUERIES)],
        "two frequent words": [
            " ".join(language.random.sample(frequent, 2)) for _ in range(QUERIES)
        ],
        "a word while typed": [w[:n] for w in language.some(QUERIES // 4) for n in (1, 2, 3, 4)],
        "nothing there": ["no-such-package"] * QUERIES,
    }
    print(f"searches, over HTTP, each on a new connection (goal: {GOAL} ms)")
    for name, queries in kinds.items():
        paths = [f"/packages?q={quote(query)}" for query in queries]
        show(name, [milliseconds(lambda path=path: daemon.get(path)) for path in paths])  # type: ignore[misc]


def at_once(daemon: Daemon, language: Language) -> None:
    """A known manifest while one address has many searches under way."""
    path, done, answers = "/v2/hello/manifests/latest", threading.Event(), Counter[int]()
    assert daemon.pull("hello").status == 200

    def search_on() -> None:
        while not done.is_set():
            query = quote(" ".join(language.some(2)))
            answers[daemon.get(f"/packages?n=100&q={query}").status] += 1

    alone = [milliseconds(lambda: daemon.get(path)) for _ in range(QUERIES)]
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for _ in range(AT_ONCE):
            clients.submit(search_on)
        time.sleep(1)
        meanwhile = [milliseconds(lambda: daemon.get(path)) for _ in range(QUERIES)]
        done.set()
    print(f"a known manifest, and {AT_ONCE} searches at once from one address: {dict(answers)}")
    show("manifest, alone", alone)
    show("manifest, meanwhile", meanwhile)


def main() -> None:
    language = Language()
    known = make_package_set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = wide_set(folder / "set", language, PACKAGES)
        environ = {**known.environ, "NIXERY_PKGS_PATH": "", "NIXERY_PKGS_REPO": source.url}
        with running(folder / "state", environ) as daemon:
            make_index(daemon)
            search(daemon, language)
            at_once(daemon, language)


if __name__ == "__main__":
    main()
