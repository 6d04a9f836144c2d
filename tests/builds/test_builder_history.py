"""What a builder tells of its builds."""

from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nixery.interfaces import Pull
from nixery.model.build_errors import BuildFailed
from nixery.model.image import parse_image
from nixery.model.service_errors import ShuttingDown
from tests.builds.fakes import Parts, make_parts
from tests.history.histories import moment, read


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    made = make_parts(str(tmp_path))
    pytest_twisted.blockon(Deferred.fromCoroutine(made.history.start()))
    return made


class Client:
    """Asks for an image, and notes which build it waits for."""

    def __init__(self, parts: Parts, name: str = "git") -> None:
        self.builds: list[str] = []
        asking = parts.builder.manifest(parse_image(name, "latest"), self.builds.append)
        self.answer: Deferred[Pull] = Deferred.fromCoroutine(asking)


@pytest_twisted.ensureDeferred
async def test_a_build_from_its_beginning_to_its_end(parts: Parts) -> None:
    """A build's history has its steps, in order, its image, and its manifest's digest."""
    client = Client(parts)
    manifest = (await client.answer).manifest
    await parts.history.stop()
    (id,) = client.builds
    (head,) = list(parts.history.heads())
    assert (head.id, head.name, head.tag, head.state) == (id, "git", "latest", "done")
    assert head.digest == str(manifest.digest)
    events = (await read(parts.history, id)).events
    types = list(dict.fromkeys(event["type"] for event in events))
    steps = "resolved evaluating realised measured furnished grouped packed stored done"
    assert [kind for kind in types if kind != "asked"] == steps.split()
    stored = {event["digest"] for event in events if event["type"] == "stored"}
    assert stored == {str(blob.digest) for blob in manifest.blobs[1:]}
    assert parts.nix.asked[0].name == "git"


@pytest_twisted.ensureDeferred
async def test_who_waits_is_counted(parts: Parts) -> None:
    """Everybody who waits is told of the one build, and they are counted as they come and go."""
    parts.nix.gate = Deferred()
    clients = [Client(parts) for _ in range(3)]
    while not all(client.builds for client in clients):
        await moment()
    ids = {id for client in clients for id in client.builds}
    (id,) = ids
    assert parts.history.waiting(id) == 3
    clients[0].answer.addErrback(lambda _: None)
    clients[0].answer.cancel()
    assert parts.history.waiting(id) == 2
    parts.nix.gate.callback(None)
    for client in clients[1:]:
        await client.answer
    assert parts.history.waiting(id) == 0
    await parts.history.stop()
    events = (await read(parts.history, id)).events
    assert [event["waiting"] for event in events if event["type"] == "asked"] == [1, 2, 3]


@pytest_twisted.ensureDeferred
async def test_known_images_have_no_build(parts: Parts) -> None:
    """Who need not wait is told of no build, and none is listed."""
    await Client(parts).answer
    again = Client(parts)
    await again.answer
    assert again.builds == []
    assert len(list(parts.history.heads())) == 1
    await parts.history.stop()


@pytest_twisted.ensureDeferred
async def test_failures(parts: Parts) -> None:
    """A failed build's history says why, in the words that clients read."""
    error = BuildFailed("git-1.0", "it is broken", ["the last line"])
    parts.nix.error = error
    client = Client(parts)
    with pytest.raises(BuildFailed):
        await client.answer
    await parts.history.stop()
    head = parts.history.head(client.builds[0])
    assert head is not None
    assert (head.state, head.error) == ("failed", str(error))
    last = (await read(parts.history, head.id)).events[-1]
    assert (last["type"], last["derivation"]) == ("failed", "git-1.0")


@pytest_twisted.ensureDeferred
async def test_layers_that_another_build_makes(parts: Parts) -> None:
    """Two builds that share a layer both tell that it is stored, and one that it was packed."""
    clients = [Client(parts, "git"), Client(parts, "git/jq")]
    for client in clients:
        await client.answer
    await parts.history.stop()
    packed, stored = [], []
    for client in clients:
        events = (await read(parts.history, client.builds[0])).events
        packed += [event["digest"] for event in events if event["type"] == "packed"]
        stored += [event["digest"] for event in events if event["type"] == "stored"]
    assert len(packed) == len(set(packed))
    assert set(stored) == set(packed)


@pytest_twisted.ensureDeferred
async def test_a_daemon_that_stops(parts: Parts) -> None:
    """Builds that are given up since the daemon stops have failed for that, on disk too."""
    parts.nix.gate = Deferred()
    client = Client(parts)
    while not client.builds:
        await moment()
    await parts.builder.stop()
    with pytest.raises(ShuttingDown):
        await client.answer
    await parts.history.stop()
    again = parts.again()
    await again.history.start()
    await again.history.loaded()
    (head,) = list(again.history.heads())
    assert (head.state, head.error, head.complete) == ("failed", str(ShuttingDown()), True)
    assert (await read(again.history, head.id)).events[-1]["type"] == "failed"
