"""How fast the pages are where much is known: 10,000 images and builds, 60,000 packages.

Run by ``make bench``. Each page is asked for again and again, with rests, while the reactor's lag
is measured; CPU is that of the server alone. Sizes are those of HTML and style together.
"""

import random
import statistics
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.internet import asyncioreactor

from benchmarks.history import write_builds

IMAGES, PACKAGES, LAYERS, PATHS = 10_000, 60_000, 60, 1000
ASKED = 100
GOAL = 50  # ms
TICK = 0.005


async def measure(reactor: Any, folder: str) -> None:
    """Ask for the pages, and print what that takes."""
    from twisted.internet.endpoints import TCP4ServerEndpoint
    from twisted.internet.task import LoopingCall, deferLater
    from twisted.internet.threads import deferToThread

    from nixery.history.history import History
    from nixery.trimmer import AGAIN, Trimmer
    from nixery.web.auth import OPEN
    from nixery.web.builds import BuildsApi
    from nixery.web.packages import PackagesApi
    from nixery.web.pages.api import PagesApi
    from nixery.web.pages.images_api import ImagePages
    from nixery.web.pages.page import STATIC
    from nixery.web.pages.start_api import StartApi
    from nixery.web.site import make_site
    from nixery.web.stored_images import StoredImages
    from tests.web.pages.gallery import Gallery
    from tests.web.server import FakeBuilder

    path = f"{folder}/history"
    write_builds(path)
    history = History(reactor, path)
    await history.start()
    await history.loaded()
    gallery = Gallery(Path(folder))
    name = await fill(gallery)
    catalogue: Any = catalogue_of(reactor, PACKAGES)
    images = StoredImages(reactor, gallery.known, gallery.cache, gallery.storage, OPEN)
    builder = FakeBuilder()
    more = [
        ImagePages(reactor, images, history).app,
        StartApi(reactor, builder, history, catalogue, images).app,
    ]
    site = make_site(
        *(reactor, builder, gallery.storage, 45, PagesApi(), BuildsApi(reactor, history)),
        PackagesApi(reactor, catalogue, images),
        more=more,
    )
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
    style = len(STATIC["style.css"].content)
    # As in a daemon that has run for some seconds: see nixery/trimmer.py.
    Trimmer(reactor, lambda: 1).startService()
    await deferLater(reactor, AGAIN + 1)
    print(f"{IMAGES} images, {PACKAGES} packages; an image of {PATHS} store paths")
    for asked in (
        *("/", "/builds", f"/images/{name}", f"/images/{name}?why=p900"),
        *(f"/compare?from={name}&to=other", "/packages?q=pa", "/packages/p1", "/images/none"),
    ):
        late: list[float] = []
        expected = [time.perf_counter() + TICK]

        def tick(late: list[float] = late, expected: list[float] = expected) -> None:
            now = time.perf_counter()
            late.append(max(0.0, now - expected[0]))
            expected[0] = now + TICK

        ticking = LoopingCall(tick)
        ticking.start(TICK)
        took, worked, size = await deferToThread(ask, port.getHost().port, asked)
        ticking.stop()
        p99 = statistics.quantiles(took, n=100)[98]
        print(
            f"  {asked[:44]:44} median {1000 * statistics.median(took):5.1f} ms, "
            f"p99 {1000 * p99:5.1f} ms (goal: {GOAL}), "
            f"{1000 * statistics.mean(worked):4.1f} ms of CPU, {1000 * worked[0]:4.1f} at first; "
            f"lag p99 {1000 * statistics.quantiles(late, n=100)[98]:4.1f} ms; "
            f"{(size + style) / 1000:.0f} KB"
        )
    await history.stop()


async def fill(gallery: Any) -> str:
    """Store an image of many store paths, and one to compare it with; know of many others.

    :return: the name of the first.
    """
    from nixery.model.digest import Digest
    from nixery.model.image_summary import ImageSummary
    from tests.web.pages.gallery import facts

    random.seed(1)
    names = [f"p{n}-1.{n}" for n in range(PATHS)]
    paths = [
        facts(
            name,
            int(1e5 * random.paretovariate(1)),
            *{random.choice(names[n + 1 :]) for _ in range(8 if n < PATHS - 1 else 0)},
        )
        for n, name in enumerate(names)
    ]
    own = [f"p{n}" for n in range(8)]
    packages = {package: [names[n]] for n, package in enumerate(own)}
    name = "/".join(own)
    await gallery.add(name, paths=paths, packages=packages)
    newer = [facts(f"p{n}-2.{n}", n) for n in range(PATHS // 2)] + paths[PATHS // 2 :]
    await gallery.add("other", paths=newer, packages={"other": ["p0-2.0"]})
    layers = [Digest.of(b"layer %d" % n).hex[:8] for n in range(2000)]
    for number in range(IMAGES):
        gallery.cache.on_made(
            ImageSummary(
                str(Digest.of(b"%d" % number)),
                f"p{number % 2000}/q{number}",
                ("latest",),
                ("linux/amd64",),
                size=50_000_000,
                made=1e9 + number,
                blobs="".join(random.choices(layers, k=LAYERS)),
            )
        )
    return name


def catalogue_of(reactor: Any, count: int) -> Any:
    """A catalogue whose index is there."""
    from nixery.model.package_set import Package
    from nixery.search.catalogue import Catalogue, _Made
    from nixery.search.index_file import KeptIndex
    from nixery.search.ranking import Index

    packages = [
        Package((f"p{n}",), f"p{n}", f"p{n}-1.{n}", f"p{n}", f"1.{n}", f"package number {n}")
        for n in range(count)
    ]
    nothing: Any = None
    catalogue = Catalogue(reactor, nothing, nothing, "/nowhere")
    kept = KeptIndex("key", "folder:set", "1", b"")
    catalogue._made = _Made(Index.of(packages), kept, 0.0)
    catalogue._due = reactor.seconds() + 1e9
    return catalogue


def ask(port: int, path: str) -> tuple[list[float], list[float], int]:
    """Ask for a page again and again.

    :return: the seconds that each answer took, those of CPU that the server worked for it, and
        the bytes of the last.
    """
    took, worked, size = [], [], 0
    connection = HTTPConnection("127.0.0.1", port)
    for _ in range(ASKED):
        began, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
        connection.request("GET", path, headers={"Accept": "text/html"})
        size = len(connection.getresponse().read())
        took.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu - (time.thread_time() - own))
        # Pages have a share of the time: who asks again at once waits for a turn.
        time.sleep(10 * took[-1])
    connection.close()
    return took, worked, size


def main() -> None:
    asyncioreactor.install()
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred

    reactor: Any = installed

    async def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            await measure(reactor, folder)

    def start() -> None:
        measuring = Deferred.fromCoroutine(work())
        measuring.addErrback(lambda failure: failure.printTraceback(sys.stderr))
        measuring.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()


if __name__ == "__main__":
    main()
