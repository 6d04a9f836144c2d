"""How fast a layer goes into a bucket, what that takes, and how fast clients are sent there.

``python benchmarks/storage.py``: the bucket is on the tests' servers, of Google Cloud Storage and
of S3, which verify tokens, checksums and signatures, each in a process of its own on this machine.
So the network is not measured, but what the server does is: rates are a lower bound. Each service
is measured in processes of its own, one after the other, several times.
"""

import hashlib
import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessValue
from twisted.web.client import Agent, HTTPConnectionPool

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from nixery.model.digest import Digest  # noqa: E402
from nixery.storage.objects.object_storage import ObjectStorage  # noqa: E402
from nixery.storage.objects.object_store import IObjectStore  # noqa: E402

MB = 1_000_000
BLOCK = hashlib.shake_256(b"a layer").digest(1 << 20)
BLOCKS = 1024
"""Of 1 MiB each, in the layer."""
SMALL = 2000
"""Blobs that clients ask for."""
SERVICES = ("gcs", "s3")
ROUNDS = 2
TICK = 0.005
"""Seconds between two looks at how late the reactor is."""
_WRITE = "import sys; block = sys.stdin.buffer.read(); file = open(sys.argv[1], 'wb');"
_WRITE += "[file.write(block) for _ in range(int(sys.argv[2]))]; file.close()"


def serve(service: str, folder: str) -> None:
    """Be the server, until standard input ends; the environment of its users is printed.

    :param folder: for a file with an account.
    """
    from twisted.internet import reactor as _reactor

    from tests.gcs.server import GcsServer
    from tests.s3.server import S3Server
    from tests.storage.s3_place import environ_of

    reactor: Any = _reactor
    place = Path(folder)

    async def start() -> None:
        if service == "s3":
            server = S3Server()
            await server.start()
            environ = environ_of(server, place)
        else:
            gcs = GcsServer()
            await gcs.start()
            gcs.account.write(place / "account.json", gcs.token_uri)
            environ = {
                "GOOGLE_APPLICATION_CREDENTIALS": f"{folder}/account.json",
                "STORAGE_EMULATOR_HOST": gcs.url,
            }
        print(json.dumps(environ), flush=True)

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(start()))
    ended = deferToThread(sys.stdin.read)
    ended.addBoth(lambda _: reactor.stop())
    reactor.run()


@contextmanager
def serving(service: str) -> Iterator[None]:
    """The server as a process, which the environment names."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, __file__, "serve", service, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        os.environ.update(json.loads(process.stdout.readline()))
        try:
            yield
        finally:
            process.communicate()


def make_store(service: str, reactor: Any, agent: Agent) -> IObjectStore:
    """The store of a service. What the other one needs is not even imported."""
    if service == "s3":
        from nixery.storage.objects.aws_access import AwsProfile
        from nixery.storage.objects.s3 import S3Store
        from nixery.storage.objects.s3_requests import S3Bucket, S3Requests

        requests = S3Requests(reactor, agent, S3Bucket("bucket"), AwsProfile(os.environ))
        return S3Store(reactor, requests)
    from nixery.storage.objects.gcs import GcsBucket, GcsStore

    return GcsStore(reactor, agent, GcsBucket("bucket"), os.environ)


class Lateness:
    """How late the reactor is: seconds by which calls come after their time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._due = time.perf_counter() + TICK
        self._call = LoopingCall(self._look)
        self._call.start(TICK, now=False)

    def _look(self) -> None:
        now = time.perf_counter()
        self.seconds.append(max(now - self._due, 0))
        self._due = now + TICK

    def stop(self) -> str:
        self._call.stop()
        cuts = [1000 * cut for cut in statistics.quantiles(self.seconds, n=100)]
        worst = 1000 * max(self.seconds)
        return f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, most {worst:.0f} ms"


def peak() -> float:
    """The most memory that this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


async def upload(reactor: Any, storage: ObjectStorage) -> None:
    """One layer, which another process writes."""
    summed = hashlib.sha256()
    for _ in range(BLOCKS):
        summed.update(BLOCK)
    digest, size = Digest(summed.hexdigest()), BLOCKS * len(BLOCK)
    await storage.write_blob(b"warm")
    before, late, began = peak(), Lateness(), time.perf_counter()
    cpu = time.process_time()
    sink = await storage.receive()
    await deferToThread(_write, sink.sink)
    await sink.commit(digest, size)
    seconds = time.perf_counter() - began
    print(f"one layer of {size / MB:.0f} MB: {size / MB / seconds:.0f} MB/s")
    print(f"  memory {before:.0f} MB before, {peak():.0f} MB at most")
    print(f"  {(time.process_time() - cpu) / seconds:.0%} of a processor")
    print(f"  the reactor was late by {late.stop()}")


def _write(path: str) -> None:
    argv = [sys.executable, "-c", _WRITE, path, str(BLOCKS)]
    subprocess.run(argv, input=BLOCK, check=True)


async def redirects(reactor: Any, storage: ObjectStorage, fresh: ObjectStorage) -> None:
    """Blob requests that are answered with the address of an object.

    :param fresh: another storage on the same bucket, which knows nothing yet.
    """
    from tests.web.server import serving as serving_registry

    contents = [b"%d" % number for number in range(SMALL)]
    await DeferredList([Deferred.fromCoroutine(storage.write_blob(one)) for one in contents])
    async with serving_registry(storage=fresh) as registry:
        for what in ("looked up and signed", "known"):
            began = time.perf_counter()
            argv = [__file__, "ask", str(registry.port)]
            assert await getProcessValue(sys.executable, argv, os.environ) == 0
            rate = SMALL / (time.perf_counter() - began)
            print(f"{SMALL} blobs, {what}: {rate:.0f} requests/s")


def ask(port: int) -> None:
    """Ask for all small blobs, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(SMALL):
        connection.request("GET", f"/v2/a/blobs/{Digest.of(b'%d' % number)}")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 307, answer.status


async def measure(service: str, reactor: Any) -> None:
    agent = Agent(reactor, pool=HTTPConnectionPool(reactor))
    storages = [ObjectStorage(reactor, make_store(service, reactor, agent)) for _ in range(2)]
    for storage in storages:
        await storage.start()
    await upload(reactor, storages[0])
    await redirects(reactor, *storages)
    for storage in storages:
        storage.stop()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3])
    elif sys.argv[1:2] == ["ask"]:
        ask(int(sys.argv[2]))
    elif sys.argv[1:]:
        service = sys.argv[1]
        with serving(service):
            react(lambda reactor: Deferred.fromCoroutine(measure(service, reactor)))
    else:
        for service in SERVICES * ROUNDS:
            print(f"{service}:", flush=True)
            subprocess.run([sys.executable, __file__, service], check=True)


if __name__ == "__main__":
    main()
