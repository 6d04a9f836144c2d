"""How fast known images are served, beside an earlier commit, docker-registry and nginx.

    PYTHONPATH=. .venv/bin/python benchmarks/serving.py [--quick] [--beside COMMIT] …

takes ten minutes, or two: all servers run at the same time, and are asked in turns. It prints
tables in Markdown: medians of all rounds. Absolute numbers depend on the machine and on what else
it does; the ratios are medians of those of each round. Processor time is the server's alone.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs

from benchmarks.load import Load, run
from benchmarks.scores import Goal, Numbers, at_most
from benchmarks.servers import (
    LARGE,
    NAME,
    SMALL,
    Kind,
    Server,
    bench_set,
    daemon,
    nginx,
    registry,
    tree_of,
)
from tests.e2e.daemon import ACCEPT
from tests.e2e.packages import TOP, make_package_set
from tests.e2e.strangers import WITH_EVENTS, write_history
from tests.waiting import HUNG, wait_until

THIS, BEFORE = "this", "before"
LONG, SHORT = "with history", "without"
BUILDS = 10_000
READERS, SIP, SIPS = 64, 65536, 30
"""Slow readers: how many, the bytes that each takes at a time, and how often in all."""


@attrs.frozen
class Row:
    """Requests of one kind.

    :param what: ``manifest``, ``small`` or ``large``.
    :param goals: of the rate.
    """

    name: str
    what: str
    connections: int
    goals: Sequence[Goal]
    method: str = "GET"
    renewed: bool = False

    def load(self, server: Server, seconds: float) -> Load:
        """The requests that a server gets."""
        image = server.image
        if self.what == "manifest":
            path, length, digest = "manifests/latest", len(image.manifest), image.digest
        else:
            blob = image.like(SMALL if self.what == "small" else LARGE)
            path, length, digest = f"blobs/{blob.digest}", blob.size, blob.digest
        request = _request(f"/v2/{NAME}/{path}", ACCEPT, self.method)
        sample = digest.partition(":")[2] if self.method == "GET" else None
        return Load(server.port, request, length, sample, self.connections, self.renewed, seconds)


def _request(path: str, accept: str, method: str = "GET") -> str:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "User-Agent: load",
        f"Accept: {accept}",
    ]
    return "\r\n".join([*lines, "", ""])


_TIMES, _OF_NGINX = partial(Goal, other=BEFORE), partial(Goal, other="nginx")
ROWS = (
    Row("known manifest, 1 connection, req/s", "manifest", 1, [_TIMES(12), _OF_NGINX(0.25)]),
    Row("known manifest, 16", "manifest", 16, [_TIMES(30), _OF_NGINX(0.4)]),
    Row("the same, a new connection each", "manifest", 16, [_TIMES(8)], renewed=True),
    Row("HEAD, 16", "manifest", 16, [_TIMES(20)], method="HEAD"),
    Row("9 KB blob, 16", "small", 16, [_TIMES(12), _OF_NGINX(0.25)]),
    Row("46 MB blob, 1 connection, MB/s", "large", 1, [_OF_NGINX(1)]),
    Row("46 MB blob, 16", "large", 16, [_OF_NGINX(0.9)]),
)
PER_GB = "processor time for a GB, 16, s"
MEMORY = f"memory with {READERS} large blobs under way (PSS), MB"
START = "start to first answer, s"
PULL, PULL_CPU = "first pull of this image, s", "first pull, processor time, s"
PAGE = "start page, req/s"
GOALS = {
    **{row.name: row.goals for row in ROWS},
    PER_GB: [at_most(1.5, "nginx")],
    MEMORY: [at_most(90)],
    START: [at_most(0.45, BEFORE)],
    PULL: [at_most(1, BEFORE)],
    PULL_CPU: [at_most(1, BEFORE)],
}


def say(text: str) -> None:
    """Tell whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


@attrs.define
class Bench:
    """Measures, round by round.

    :param folder: for all that the servers write.
    :param daemons: name → the tree that it runs from, and settings of its own.
    :param settings: of all daemons.
    :param seconds: for which each row asks each server.
    :ivar rates: requests or MB in a second, and whatever else is compared.
    :ivar costs: µs of processor time for an answer, or ms for 1 GB.
    :ivar shares: of a processor that the servers took.
    """

    folder: Path
    daemons: dict[str, tuple[Path, dict[str, str]]]
    settings: dict[str, str]
    seconds: float
    rates: Numbers = attrs.Factory(Numbers)
    costs: Numbers = attrs.Factory(Numbers)
    shares: Numbers = attrs.Factory(Numbers)
    _kinds: list[Kind] = attrs.Factory(list)

    def _daemon(self, name: str, state: str) -> Kind:
        tree, more = self.daemons[name]
        return daemon(name, tree, self.folder / state, {**self.settings, **more})

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def prepare(self) -> None:
        """Have the image made by all daemons, and put into the other servers."""
        self._kinds = [self._daemon(name, f"state of {name}") for name in self.daemons]
        for kind in self._kinds[1:]:
            with kind.running(self._log(kind.name)) as server:
                assert server.image
        with self._kinds[0].running(self._log(THIS)) as server:
            image = server.image
            blobs = {blob.digest: server.verified(blob) for blob in image.blobs}
        say(f"{len(image.blobs) - 1} layers, a manifest of {len(image.manifest)} bytes,")
        say(f"layers of {image.like(SMALL).size} and {image.like(LARGE).size} bytes are asked for")
        for make in (registry, nginx):
            folder = self.folder / make.__name__
            folder.mkdir()
            self._kinds.append(make(folder, image, blobs))
        write_history(self.folder / LONG, BUILDS)

    def round(self, number: int) -> None:
        """All rows at all servers, which are started for it."""
        with ExitStack() as stack:
            servers = []
            for kind in self._kinds:
                server = stack.enter_context(kind.running(self._log(kind.name)))
                self.rates.add(START, kind.name, server.first_answer)
                for size in (SMALL, LARGE):
                    server.verified(server.image.like(size))
                servers.append(server)
            for server in servers:
                run(ROWS[0].load(server, self.seconds))
                server.settle()
            turns = servers[number % len(servers) :] + servers[: number % len(servers)]
            for row in ROWS:
                for server in turns:
                    self._ask(row, server)
            for server in turns:
                self.rates.add(MEMORY, server.name, memory(server))
        self._page()
        for name in (THIS, BEFORE):
            self._first_pull(self._daemon(name, f"round {number} of {name}"))

    def _ask(self, row: Row, server: Server) -> None:
        before = server.cpu()
        done = run(row.load(server, self.seconds))
        cpu = server.cpu() - before
        self.shares.add(row.name, server.name, cpu / done.seconds)
        self.shares.add(row.name, _load_on(server.name), done.cpu / done.seconds)
        if row.what != "large":
            self.rates.add(row.name, server.name, done.answers / done.seconds)
            self.costs.add(row.name, server.name, 1e6 * cpu / done.answers)
            return
        gigabytes = done.bytes / 1e9
        self.rates.add(row.name, server.name, 1000 * gigabytes / done.seconds)
        self.costs.add(row.name, server.name, 1000 * cpu / gigabytes)
        if row.connections > 1:
            self.rates.add(PER_GB, server.name, cpu / gigabytes)

    def _page(self) -> None:
        """The start page with a long history, and without."""
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(self._daemon(THIS, name).running(self._log(name)))
                for name in (SHORT, LONG)
            }
            listed = f"/builds?n={WITH_EVENTS}"
            wait_until(lambda: servers[LONG].get(listed)[2].count(b'"id"') >= WITH_EVENTS)
            for name, server in servers.items():
                self.rates.add(START, name, server.first_answer)
                done = run(Load(server.port, _request("/", "text/html"), seconds=self.seconds))
                self.rates.add(PAGE, name, done.answers / done.seconds)

    def _first_pull(self, kind: Kind) -> None:
        """A daemon that knows no image is asked for this one; Nix has built it."""
        with kind.running(self._log(kind.name)) as server:
            server.settle()
            before, began = server.cpu(), time.perf_counter()
            assert server.image
            self.rates.add(PULL, kind.name, time.perf_counter() - began)
            self.rates.add(PULL_CPU, kind.name, server.cpu() - before)

    def tables(self) -> Iterator[str]:
        """The tables, and what each is about."""
        rows: dict[str, Sequence[Goal]] = {row.name: [] for row in ROWS}
        names = [kind.name for kind in self._kinds]
        yield self.rates.table(GOALS, names, [BEFORE, "nginx"])
        yield f"With {BUILDS:,} builds of history, and with none"
        yield self.rates.table({PAGE: [Goal(0.8, SHORT)], START: []}, [LONG, SHORT], [SHORT])
        yield "Processor time of the server: µs for an answer, ms for a GB of a large blob"
        yield self.costs.table(rows, names, [BEFORE, "nginx"])
        yield "Share of a processor that each server had, and that the load on it had"
        yield self.shares.table(rows, [*names, *map(_load_on, names)])


def _load_on(name: str) -> str:
    return f"load on {name}"


def memory(server: Server) -> float:
    """The most memory of a server, in MB, while many clients load a large blob slowly."""
    request = _request(server.image.like(LARGE).path, ACCEPT).encode("ascii")
    found = 0.0
    with ExitStack() as stack:
        readers = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), HUNG))
            for _ in range(READERS)
        ]
        for reader in readers:
            reader.sendall(request)
        for _ in range(SIPS):
            for reader in readers:
                assert reader.recv(SIP), f"{server.name} has closed a connection"
            found = max(found, server.memory())
            time.sleep(0.05)
    return found


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--beside", metavar="COMMIT", default="e7fcc82")
    parser.add_argument("--also", metavar="NAME=VALUE", help="a daemon with this setting, too")
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.6) if arguments.quick else (5, 2.5)
    before = tree_of(arguments.beside)
    usual = make_package_set()
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        daemons: dict[str, tuple[Path, dict[str, str]]] = {THIS: (TOP, {}), BEFORE: (before, {})}
        if arguments.also:
            setting, _, value = arguments.also.partition("=")
            daemons[arguments.also] = (TOP, {setting: value})
        bench = Bench(folder, daemons, bench_set(usual, folder / "set"), seconds)
        bench.prepare()
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}; the load of this machine: {os.getloadavg()[0]}")
            bench.round(number)
    print(f"before: {arguments.beside}; {rounds} rounds of {seconds} s for each row")
    for text in bench.tables():
        print(f"\n{text}")


if __name__ == "__main__":
    main()
