"""The cost of watching a busy build, and of a long history.

``python benchmarks/history.py``: a build prints 300,000 lines in five seconds. Twenty listeners
follow over HTTP, in three forms, from a process of their own; one of them reads 20 KB/s while the
build runs, and the rest at once after it. Printed are the time that the lines took, the reactor's
lag while they came, the growth of memory, and whether all of it is on disk and reached everybody.

``python benchmarks/history.py lists``: with 10,000 builds in the history, the time of one page of
the list, of the start page and of an image's page, and the CPU time that one more build takes.
"""

import json
import os
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from multiprocessing import Pipe, Process
from typing import Any

import psutil
from twisted.internet import asyncioreactor

LINES, SECONDS, FOLLOWERS = 300_000, 5.0, 20
BATCHES = 1000
KEPT, MORE, ASKED = 10_000, 300, 40
SLOW = 20_000  # bytes a second
TICK = 0.005
FORMS = {
    "server-sent events": ("events", "", b"\nid: "),
    "lines of JSON": ("events", "Accept: application/x-ndjson\r\n", b'{"id":'),
    "text": ("log", "", b"> "),
}


def follow(port: int, id: str, form: str, ended: threading.Event | None) -> int:
    """Follow a build to its end; slowly until another event if one is named.

    :return: how many events came.
    """
    path, accept, mark = FORMS[form]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        request = f"GET /builds/{id}/{path} HTTP/1.0\r\nHost: x\r\n{accept}\r\n"
        connection.sendall(request.encode())
        count, rest = 0, b""
        while True:
            slow = ended is not None and not ended.is_set()
            piece = connection.recv(SLOW // 10 if slow else 1 << 20)
            if not piece:
                return count
            if slow:
                time.sleep(0.1)
            count += (rest + piece).count(mark) - rest.count(mark)
            rest = piece[-len(mark) + 1 :]


def clients(port: int, id: str, pipe: Any) -> None:
    """All listeners; says how many events each form's were told."""
    ended = threading.Event()
    with ThreadPoolExecutor(FOLLOWERS) as pool:
        names = [list(FORMS)[number % len(FORMS)] for number in range(FOLLOWERS - 1)]
        running = [(name, pool.submit(follow, port, id, name, None)) for name in names]
        slow = pool.submit(follow, port, id, "lines of JSON", ended)
        pipe.recv()
        fast = [(name, each.result()) for name, each in running]
        pipe.send(fast)
        ended.set()
        pipe.send(slow.result())


class Lag:
    """How late the reactor is with what it is to do at a time."""

    def __init__(self, reactor: Any) -> None:
        self.samples: list[float] = []
        self._reactor = reactor
        self._running = True
        self._next()

    def stop(self) -> None:
        self._running = False

    def _next(self) -> None:
        due = time.perf_counter() + TICK
        self._reactor.callLater(TICK, self._sample, due)

    def _sample(self, due: float) -> None:
        self.samples.append(1000 * max(0.0, time.perf_counter() - due))
        if self._running:
            self._next()


async def run(reactor: Any, folder: str) -> None:
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.internet.threads import deferToThread
    from twisted.web.server import Site

    from nixery.history.history import History
    from nixery.http.bounds import Bounds
    from nixery.model.limits import HttpLimits
    from nixery.web.builds import BuildsApi

    history = History(reactor, os.path.join(folder, "history"))
    await history.start()
    record = history.begin("0" * 64, "git", "latest")
    site: Any = Site(BuildsApi(reactor, history).app.resource())
    site.bounds = Bounds(HttpLimits())
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    pipe, theirs = Pipe()
    process = Process(target=clients, args=(port.getHost().port, record.id, theirs))
    process.start()
    await _sleep(reactor, 1)
    before = psutil.Process().memory_info().rss
    cpu, lag, began = time.process_time(), Lag(reactor), time.perf_counter()
    emitting = await _emit(reactor, record)
    record.done("sha256:x")
    printed = time.perf_counter() - began
    await history.stop()
    saved = time.perf_counter() - began
    pipe.send(None)
    fast = await deferToThread(pipe.recv)
    told = time.perf_counter() - began
    lag.stop()
    cpu = time.process_time() - cpu
    slow = await deferToThread(pipe.recv)
    process.join()
    head = history.head(record.id)
    assert head is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = os.path.getsize(record.source.file.path)
    print(f"{LINES} lines in {printed:.2f} s, {FOLLOWERS} listeners, one of {SLOW / 1000:.0f} KB/s")
    print(f"  taking the lines {emitting:.2f} s; the process {cpu:.2f} s of CPU in all")
    print(f"  on disk after {saved:.2f} s: {size / 1e6:.1f} MB, complete: {head.complete}")
    print(f"  fast listeners had all after {told:.2f} s: {sorted({n for _, n in fast})} events")
    print(f"  the slow one had all in the end: {slow} events")
    quantiles = statistics.quantiles(lag.samples, n=100)
    print(f"  reactor's lag: median {quantiles[49]:.1f} ms, p99 {quantiles[98]:.1f} ms,", end=" ")
    print(f"most {max(lag.samples):.1f} ms, of {len(lag.samples)} samples")
    print(f"  memory: {before / 1e6:.0f} MB before, peak {peak / 1e6:.0f} MB")


async def _emit(reactor: Any, record: Any) -> float:
    """Emit the lines in equal batches, at equal times.

    :return: the seconds that this took of the reactor.
    """
    from nixery.model.events import LogLine

    text = "gcc -O2 -Wall -Iinclude -c src/a/rather/long/path/to/a/file-{}.c -o build/file.o"
    began, spent = time.perf_counter(), 0.0
    count = LINES // BATCHES
    for batch in range(BATCHES):
        start = time.perf_counter()
        for number in range(batch * count, (batch + 1) * count):
            record.emit(LogLine("x-1.0", text.format(number)))
        spent += time.perf_counter() - start
        due = began + (batch + 1) * SECONDS / BATCHES
        await _sleep(reactor, max(0.0, due - time.perf_counter()))
    return spent


def write_builds(folder: str) -> None:
    """Write what earlier daemons leave of many builds, a second apart until now."""
    import attrs

    from nixery.history.summary import BuildHead

    os.makedirs(folder)
    start = time.time() - KEPT
    for number in range(KEPT):
        began = start + number
        id = f"{int(began * 1000):012x}0000"
        name, digest = f"p{number % 2000}", f"sha256:{number:064x}"
        head = BuildHead(id, "0" * 64, name, "latest", began, "done", began + 1, digest, events=1)
        with open(os.path.join(folder, f"{id}.json"), "w", encoding="ascii") as file:
            json.dump({"head": attrs.asdict(head), "details": {}}, file)


async def lists(reactor: Any, folder: str) -> None:
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.internet.threads import deferToThread

    from nixery.history.history import History
    from nixery.interfaces import Provenance
    from nixery.model.request_errors import ManifestUnknown
    from nixery.storage.memory import MemoryStorage
    from nixery.web.builds import BuildsApi
    from nixery.web.pages.api import PagesApi
    from nixery.web.site import make_site

    class NoBuilder:
        async def provenance(self) -> Provenance:
            return Provenance("x", "y")

        async def stored_manifest(self, digest: Any) -> Any:
            raise ManifestUnknown(str(digest))

    path = os.path.join(folder, "history")
    write_builds(path)
    history = History(reactor, path)
    await history.start()
    await history.loaded()
    builder: Any = NoBuilder()
    pages, builds = PagesApi(), BuildsApi(reactor, history)
    site = make_site(reactor, builder, MemoryStorage(), 45, pages, builds)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    print(f"{KEPT} builds in the history")
    for asked in ("/builds?n=100", "/builds"):
        before = time.process_time()
        took = await deferToThread(ask, port.getHost().port, asked)
        cpu = (time.process_time() - before) / ASKED
        median = statistics.median(took)
        print(f"  {asked}: median {1000 * median:.1f} ms, {1000 * cpu:.1f} ms of CPU")
    before = time.process_time()
    for number in range(MORE):
        history.begin("0" * 64, f"new{number}", "latest").done("sha256:x")
        while history._ending:
            await _sleep(reactor, 0.001)
    cpu = (time.process_time() - before) / MORE
    print(f"  one more build: {1000 * cpu:.2f} ms of CPU")
    await history.stop()


def ask(port: int, path: str) -> list[float]:
    """Ask for a path again and again.

    :return: the seconds that each answer took.
    """
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", path, headers={"Accept": "text/plain"})
        connection.getresponse().read()
        connection.close()
        took.append(time.perf_counter() - began)
    return took


def _sleep(reactor: Any, seconds: float) -> Any:
    from twisted.internet.task import deferLater

    nothing: Callable[[], None] = lambda: None  # noqa: E731
    return deferLater(reactor, seconds, nothing)


def main() -> None:
    asyncioreactor.install()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed

    def start() -> None:
        measure = lists if sys.argv[1:] == ["lists"] else run
        running = Deferred.fromCoroutine(measure(reactor, folder))
        running.addErrback(lambda failure: failure.printTraceback(sys.stderr))
        running.addBoth(lambda _: reactor.stop())

    with tempfile.TemporaryDirectory() as folder:
        reactor.callWhenRunning(start)
        reactor.run()


if __name__ == "__main__":
    main()
