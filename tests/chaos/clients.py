"""Clients that pull images as container engines do, and verify every byte."""

import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from nixery.model.manifest import INDEX_TYPE, LEFT_OUT, MANIFEST_TYPE
from tests.chaos.images import IMAGES, OF_ALL, UNKNOWN
from tests.chaos.numbers import Image, Numbers
from tests.waiting import HUNG

ACCEPT = MANIFEST_TYPE
_PIECE = 65536
_REDIRECTS = 9  # that docker follows, and one
_MAY_BE_REFUSED = (400, 404, 429, 503)
_WAYS = ("whole",) * 6 + ("leaves", "ranges", "ranges", "slow")
LOOK = "looked at something else"
_ELSEWHERE = 0.05  # the share of requests that are for no image
_OTHERS = (
    *((name, "whole") for name in UNKNOWN),
    *((path, LOOK) for path in ("/", "/builds", "/packages?q=json", "/v2/hello/tags/list")),
)


@attrs.frozen
class Refused(Exception):
    """The daemon said that it can't, and why."""

    kind: str


class Left(Exception):
    """The client itself went away."""


@attrs.frozen
class Answer:
    """The head of an answer, and its connection, from which the body is to be read."""

    status: int
    headers: Mapping[str, str]
    response: http.client.HTTPResponse


@attrs.define
class Client:
    """One client: all its requests on one connection, as long as that lasts.

    :param port: where it finds the daemon.
    :param contents: what decides the layers of an image of a revision.
    """

    port: int
    numbers: Numbers
    contents: Callable[[str, str], tuple[str, ...]]
    _connection: http.client.HTTPConnection | None = None

    def pull(self, image: str, way: str = "whole", fraction: float = 0.0) -> str:
        """Pull an image.

        :param way: ``whole``, ``ranges``, ``slow``, or ``leaves`` in the middle.
        :param fraction: from 0 to 1: where it leaves, or cuts blobs in two.
        :return: the manifest's digest.
        :raises Refused: if it was refused honestly.
        :raises OSError: if the connection was refused or cut.
        :raises http.client.HTTPException: if it was cut.
        """
        try:
            return self._pull(image, way, fraction)
        finally:
            self._close()

    def look(self, path: str) -> None:
        """Ask for something else than an image, and read the answer.

        :raises Refused: if it was refused honestly.
        :raises OSError: if the connection was refused or cut.
        :raises http.client.HTTPException: if it was cut.
        """
        try:
            self._ask(path, "others").response.read()
        finally:
            self._close()

    def _pull(self, image: str, way: str, fraction: float) -> str:
        if image.startswith(OF_ALL):
            return self._pull_index(image, way, fraction)
        manifest, digest = self._manifest(image)
        self._load(image, manifest, way, fraction)
        return digest

    def _pull_index(self, image: str, way: str, fraction: float) -> str:
        """Pull an index, and the image of one platform by its digest.

        :raises Refused: at the end, if a platform was left out, which failed just now.
        """
        name = image.removeprefix(OF_ALL)
        index, digest = self._manifest(name, f"{ACCEPT}, {INDEX_TYPE}", of=image)
        child = index["manifests"][int(fraction * len(index["manifests"]))]
        is_usual = child["platform"]["architecture"] == "amd64"
        of = name if is_usual else f"arm64/{name}"
        manifest, _ = self._manifest(name, ACCEPT, child["digest"], of)
        self._load(name, manifest, way, fraction)
        if LEFT_OUT in index["annotations"]:
            raise Refused("left out")
        return digest

    def _load(self, image: str, manifest: Any, way: str, fraction: float) -> None:
        """Load the blobs of a manifest."""
        blobs = [manifest["config"], *manifest["layers"]]
        for number, blob in enumerate(blobs):
            last = way == "leaves" and number == int(fraction * len(blobs))
            path = f"/v2/{image}/blobs/{blob['digest']}"
            pieces = self._blob(path, blob["size"], way, fraction)
            self._verify(path, blob, pieces, fraction if last else None)

    def _manifest(
        self, image: str, accept: str = ACCEPT, reference: str = "latest", of: str = ""
    ) -> tuple[Any, str]:
        """A manifest, or an index, and its digest.

        :param of: what it is of, if that is not the image.
        """
        path = f"/v2/{image}/manifests/{reference}"
        for _ in range(_REDIRECTS + 1):
            answer = self._ask(path, "manifest", Accept=accept)
            body = answer.response.read()
            if answer.status == 307:
                path = answer.headers["Location"]
                continue
            digest = answer.headers["Docker-Content-Digest"]
            if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
                self.numbers.violated(f"{path}: the manifest is not that of {digest}")
            manifest, revision = json.loads(body), answer.headers["Nixery-Revision"]
            layers = [layer["digest"] for layer in manifest.get("layers", ())[:-1]]
            if LEFT_OUT not in manifest["annotations"]:
                contents = self.contents(of or image, revision)
                self.numbers.same_image(contents, revision, Image(digest, layers))
            return manifest, digest
        self.numbers.violated(f"{path}: more redirects than clients follow")
        raise Refused("redirected for ever")

    def _blob(self, path: str, size: int, way: str, fraction: float) -> Iterator[bytes]:
        """The pieces of a blob."""
        middle = int(fraction * size)
        if way != "ranges" or middle == 0:
            yield from self._body(self._ask(path, "blob"), way)
            return
        for part in (f"bytes=0-{middle - 1}", f"bytes={middle}-"):
            answer = self._ask(path, "blob", Range=part)
            if answer.status != 206:
                self.numbers.violated(f"{path}: {part} is answered {answer.status}")
            yield from self._body(answer, way)

    def _body(self, answer: Answer, way: str) -> Iterator[bytes]:
        pauses = 20 if way == "slow" else 0
        while piece := answer.response.read(_PIECE):
            yield piece
            if pauses:
                pauses -= 1
                time.sleep(0.05)  # the pace of a slow reader, not a wait for anything
        if answer.response.length:
            raise http.client.IncompleteRead(b"", answer.response.length)

    def _verify(
        self, path: str, blob: Mapping[str, object], pieces: Iterator[bytes], leave: float | None
    ) -> None:
        sha256, count = hashlib.sha256(), 0
        for piece in pieces:
            sha256.update(piece)
            count += len(piece)
            if leave is not None and count >= leave * int(str(blob["size"])):
                raise Left()
        if (count, f"sha256:{sha256.hexdigest()}") != (blob["size"], blob["digest"]):
            self.numbers.violated(f"{path}: {count} of {blob['size']} bytes, wrong ones")
        self.numbers.verified(count)

    def _ask(self, path: str, what: str, **headers: str) -> Answer:
        """Send a request, and read the head of its answer.

        :raises Refused: if the answer is an honest refusal.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        start = time.monotonic()
        self._connection.request("GET", path, headers={"Accept": ACCEPT, **headers})
        response = self._connection.getresponse()
        self.numbers.latency(what, time.monotonic() - start)
        answer = Answer(response.status, dict(response.headers), response)
        if response.status not in (200, 202, 206, 307):
            raise Refused(self._refusal(path, answer))
        return answer

    def _refusal(self, path: str, answer: Answer) -> str:
        """What kind of refusal it is; one that is not honest is noted."""
        body = answer.response.read()
        try:
            [error] = json.loads(body)["errors"]
            kind = f"{answer.status} {error['code']}"
            honest = answer.status in _MAY_BE_REFUSED and bool(error["message"])
        except (ValueError, LookupError, TypeError):
            kind, honest = str(answer.status), False
        if answer.status in (429, 503) and int(answer.headers.get("Retry-After", 0)) <= 0:
            honest = False
        if not honest:
            self.numbers.violated(f"{path}: {kind}: {body[:500]!r}")
        return kind

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def attempt(client: Client, image: str, way: str, fraction: float = 0.0) -> str:
    """Pull, or look at a path, and say what came of it."""
    try:
        if way == LOOK:
            client.look(image)
        else:
            client.pull(image, way, fraction)
    except Refused as refused:
        return refused.kind
    except Left:
        return "left by the client"
    except ConnectionRefusedError:
        return "connection refused"
    except TimeoutError:
        client.numbers.violated(f"{image}: no sign of life for {HUNG} s")
        return "hung"
    except (http.client.HTTPException, OSError):
        return "cut"
    return way if way in ("whole", LOOK) else f"whole, {way}"


def keep_pulling(client: Client, seed: str, over: threading.Event) -> None:
    """Pull image after image, until it is over, and look at something else now and then."""
    source = random.Random(seed)
    while not over.is_set():
        image, way = source.choice(IMAGES), source.choice(_WAYS)
        if source.random() < _ELSEWHERE:
            image, way = source.choice(_OTHERS)
        outcome = attempt(client, image, way, source.random())
        client.numbers.pulled(outcome)
        if way not in outcome:
            over.wait(source.random())  # clients that are refused come back a moment later
