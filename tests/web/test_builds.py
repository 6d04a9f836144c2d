"""Builds as programs see them: lists, summaries, streams."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nixery.history.event_buffer import BufferBounds
from nixery.history.history import History
from nixery.history.record import Record
from nixery.history.summary import BuildHead
from nixery.http.bounds import Bounds as SiteBounds
from nixery.model.build_errors import BuildFailed
from nixery.model.events import (
    BuildStarted,
    BuildStopped,
    Grouped,
    LogLine,
    Packed,
    PhaseStarted,
    Resolved,
    Said,
    Stored,
)
from nixery.model.limits import HttpLimits
from nixery.model.package_errors import UnknownPackage
from nixery.web import forms
from nixery.web.forms import SERVER_SENT
from tests.history.histories import begin, moment, open_history, print_lines
from tests.web.server import Answer, Collector, Server, serving

NDJSON = {"Accept": "application/x-ndjson"}
HOSTILE = [
    *("a\x00b", "\x1b[2J\x1b]0;title\x07x", "10 %\r20 %\r", "\udcff\ud800", "data: x\n\nid: 9"),
    *("é\N{LINE SEPARATOR}\x85\x0b", "<script>", '"}\\', ""),
]


@pytest.fixture
def history(tmp_path: Path) -> History:
    made: History = pytest_twisted.blockon(Deferred.fromCoroutine(open_history(tmp_path)))
    return made


def build(history: History) -> Record:
    """A build with a bit of everything, which runs."""
    record = begin(history, "git/jq")
    record.asked(1)
    record.emit(Resolved("the set", "abc"))
    record.emit(BuildStarted("x-1"))
    record.emit(PhaseStarted("x-1", "buildPhase"))
    for line in HOSTILE:
        record.emit(LogLine("x-1", line))
    record.emit(BuildStopped("x-1"))
    record.emit(Grouped(2, 1))
    record.emit(Packed("sha256:1", 10, 20, ("/nix/store/x",)))
    record.emit(Stored("sha256:1"))
    return record


def events_of(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.splitlines()]


def server_sent(body: bytes) -> list[tuple[int, dict[str, Any]]]:
    """The events of a stream, as a browser would read it."""
    told = []
    for paragraph in body.decode("utf-8").split("\n\n"):
        fields = [line for line in paragraph.split("\n") if line and not line.startswith(":")]
        if fields:
            (number, data) = fields
            assert number.startswith("id: ")
            assert data.startswith("data: ")
            told.append((int(number[4:]), json.loads(data[6:])))
    return told


@pytest_twisted.ensureDeferred
async def test_the_list(history: History) -> None:
    """All builds are listed, the latest first, with what was asked for and what came of it."""
    good, bad, running = begin(history, "good"), begin(history, "bad"), begin(history, "running")
    running.waiting = lambda: 3
    good.done("sha256:x")
    bad.failed("it is broken")
    await history.stop()
    async with serving(history=history) as server:
        answer = await server.ask("/builds")
        assert answer.headers["content-type"] == "application/json"
        listed = json.loads(answer.body)
        assert [line["id"] for line in listed] == [running.id, bad.id, good.id]
        assert [line["state"] for line in listed] == ["running", "failed", "done"]
        assert [line["waiting"] for line in listed] == [3, 0, 0]
        assert (listed[0]["name"], listed[0]["tag"], listed[0]["ended"]) == (
            "running",
            "latest",
            None,
        )
        assert listed[1]["error"] == "it is broken"
        assert listed[2]["digest"] == "sha256:x"
        assert listed[2]["started"] <= listed[2]["ended"]


@pytest_twisted.ensureDeferred
async def test_pages_of_the_list(history: History) -> None:
    """A long list comes in pages, each with a link to the next; together they are the list."""
    ids = [begin(history).id for _ in range(25)]
    async with serving(history=history) as server:
        path, listed = "/builds?n=10", []
        while path:
            answer = await server.ask(path)
            page = [line["id"] for line in json.loads(answer.body)]
            assert len(page) <= 10
            listed += page
            link = re.fullmatch('<(.*)>; rel="next"', answer.headers.get("link", ""))
            path = link[1] if link else ""
        assert listed == ids[::-1]
        for nonsense in ("?n=x", "?n=-1", "?before=", "?n=99999999999999999999"):
            answer = await server.ask("/builds" + nonsense)
            assert len(json.loads(answer.body)) == 25


@pytest_twisted.ensureDeferred
async def test_a_long_list_leaves_time_to_others(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many builds are looked at for a list, other work is done after some of them."""
    for _ in range(250):
        begin(history)
    reactor: Any = importlib.import_module("twisted.internet.reactor")
    look, rounds = history.head, [0]

    def head(id: str) -> BuildHead | None:
        if not rounds[-1]:
            reactor.callLater(0, rounds.append, 0)
        rounds[-1] += 1
        return look(id)

    monkeypatch.setattr(history, "head", head)
    async with serving(history=history) as server:
        assert len(json.loads((await server.ask("/builds?n=1000")).body)) == 250
    assert sum(rounds) == 250
    assert max(rounds) <= 101


@pytest_twisted.ensureDeferred
async def test_a_summary(history: History) -> None:
    """A build's summary tells derivations with state and times, and layers; the same while it
    runs, after it, and after a restart."""
    record = build(history)
    async with serving(history=history) as server:
        path = f"/builds/{record.id}"
        running = json.loads((await server.ask(path)).body)
        assert running["state"] == "running"
        record.done("sha256:x")
        await history.stop()
        ended = json.loads((await server.ask(path)).body)
    (derivation,) = ended["derivations"]
    assert (derivation["name"], derivation["state"]) == ("x-1", "ended")
    assert derivation["started"] <= derivation["phases"][0][1] <= derivation["ended"]
    assert derivation["lines"] == len(HOSTILE)
    assert ended["source"] == {"source": "the set", "revision": "abc"}
    assert ended["layers"] == {
        "layers": 2,
        "known": 1,
        "made": [
            {"digest": "sha256:1", "stored": True, "size": 10, "uncompressed": 20, "paths": 1}
        ],
    }
    assert (ended["state"], ended["digest"], ended["complete"]) == ("done", "sha256:x", True)
    for name in running.keys() - {"state", "ended", "digest", "events"}:
        assert running[name] == ended[name]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("restarted", [False, True])
async def test_events_as_lines(tmp_path: Path, history: History, restarted: bool) -> None:
    """For a program that asks for it, each event is a line of JSON, whatever packages print."""
    record = build(history)
    record.done("sha256:x")
    await history.stop()
    if restarted:
        history = await open_history(tmp_path)
    async with serving(history=history) as server:
        answer = await server.ask(f"/builds/{record.id}/events", headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.body.isascii()
    events = events_of(answer)
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    lines = [event["line"] for event in events if event["type"] == "log-line"]
    assert lines == HOSTILE
    assert events[-1]["type"] == "done"


@pytest_twisted.ensureDeferred
async def test_server_sent_events(history: History) -> None:
    """Without that, events are server-sent: each with its number, and a JSON document."""
    record = build(history)
    record.done("sha256:x")
    async with serving(history=history) as server:
        path = f"/builds/{record.id}/events"
        answer = await server.ask(path)
        lines = events_of(await server.ask(path, headers=NDJSON))
    assert answer.headers["content-type"] == "text/event-stream"
    assert server_sent(answer.body) == [(event["id"], event) for event in lines]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("headers", [{}, NDJSON])
async def test_coming_again(history: History, headers: dict[str, str]) -> None:
    """Who was cut off, wherever, and comes again with the last number that it has, misses nothing
    and is told nothing twice; and after the end there is nothing to come for."""
    record = begin(history)
    print_lines(record, 3000)
    async with serving(history=history) as server:
        path = f"/builds/{record.id}/events"
        had: list[int] = []
        for pieces in (1, 3, 2):
            had += await hear(server, path, had, pieces, headers)
            print_lines(record, 500)
        record.done("sha256:x")
        await history.stop()
        known = {"Last-Event-ID": str(had[-1]), **headers}
        had += numbers((await server.ask(path, headers=known)).body)
        assert had == list(range(1, 4502))
        known = {"Last-Event-ID": str(had[-1]), **headers}
        assert (await server.ask(path, headers=known)).status == 204
        assert (await server.ask(f"{path}?after={had[-1]}", headers=headers)).status == 204
        for nonsense in ("x", "-1", "", "1.5", "9" * 30):
            known = {"Last-Event-ID": nonsense, **headers}
            assert numbers((await server.ask(path, headers=known)).body)[0] == 1


def numbers(body: bytes) -> list[int]:
    """The numbers of the events that came whole."""
    whole = body[: body.rfind(b"\n") + 1]
    return [int(number) for number in re.findall(rb'"id":(\d+),[^\n]*\n', whole)]


async def hear(
    server: Server, path: str, had: list[int], pieces: int, headers: dict[str, str]
) -> list[int]:
    """Listen to some pieces of a stream, and hang up in the midst of it."""
    fields = [f"GET {path} HTTP/1.0", "Host: x"]
    fields += [f"{name}: {value}" for name, value in headers.items()]
    fields += [f"Last-Event-ID: {had[-1]}"] if had else []
    listener = await server.connect(Collector())
    transport: Any = listener.transport
    transport.write("\r\n".join([*fields, "", ""]).encode())
    while listener.received.count(b'"id":') < 100 * pieces:
        await moment()
    transport.abortConnection()
    await listener.closed
    return numbers(listener.received.partition(b"\r\n\r\n")[2])


@pytest_twisted.ensureDeferred
async def test_a_log(history: History) -> None:
    """The log has packages' lines behind the derivation's name, and the build's steps; nothing of
    it is anything that a terminal obeys."""
    record = build(history)
    record.emit(Said(0, "error: a\nb"))
    record.failed("x-1 failed to build: no\nits last line", "x-1")
    async with serving(history=history) as server:
        answer = await server.ask(f"/builds/{record.id}/log")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        lines = answer.body.decode().split("\n")
        assert lines.pop() == ""
        assert all(line.isprintable() for line in lines)
        printed = [line for line in lines if line.startswith("x-1> ")]
        assert len(printed) == len(HOSTILE)
        assert printed[1] == "x-1> x"
        assert printed[2] == "x-1> 20 %"
        assert "nixery> building x-1" in lines
        assert lines[-2:] == ["nixery> failed: x-1 failed to build: no", "nixery> its last line"]
        raw = await server.ask(f"/builds/{record.id}/log?raw")
        assert b"x-1> \x1b[2J\x1b]0;title\x07x\n" in raw.body
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_a_log_that_is_followed(history: History) -> None:
    """A log comes as the build runs, and ends with it."""
    record = begin(history)
    async with serving(history=history) as server:
        listener = await server.connect(Collector())
        transport: Any = listener.transport
        transport.write(b"GET /builds/%b/log HTTP/1.0\r\nHost: x\r\n\r\n" % record.id.encode())
        for number in range(3):
            print_lines(record, 1, number)
            while b"x-1> line %d\n" % number not in listener.received:
                await moment()
        record.done("sha256:x")
        assert (await listener.closed).endswith(b"nixery> done, as sha256:x\n")
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_without_logs(history: History) -> None:
    """Where logs are not shown, nothing that a package printed is in any answer, and all steps
    are."""
    record = build(history)
    for line in ("secret 1", "secret 2"):
        record.emit(LogLine("x-1", line))
    record.emit(Said(0, "error: no\nsecret 3"))
    record.failed("x-1 failed to build: no; the end of its log:\nsecret 4", "x-1")
    await history.stop()
    async with serving(history=history, logs=False) as server:
        for path in ("", f"/{record.id}", f"/{record.id}/events", f"/{record.id}/log"):
            body = (await server.ask("/builds" + path)).body
            assert b"failed to build: no" in body
            assert b"secret" not in body
            assert b"title" not in body
        events = events_of(await server.ask(f"/builds/{record.id}/events", headers=NDJSON))
    assert "log-line" not in {event["type"] for event in events}
    assert events[-1]["id"] == len(events) + len(HOSTILE) + 2


@pytest_twisted.ensureDeferred
async def test_nobody_is_to_see(history: History) -> None:
    """Where builds are not shown, there is nothing at their addresses, and nothing names them."""
    record = begin(history)
    async with serving() as server:
        server.builder.build = record.id
        server.builder.error = UnknownPackage("htpo")
        for path in ("/builds", f"/builds/{record.id}", f"/builds/{record.id}/log"):
            assert (await server.ask(path)).status == 404
        answer = await server.ask("/v2/htpo/manifests/latest")
        assert "link" not in answer.headers
        assert b"/builds" not in answer.body


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "path",
    [
        *("/builds/x", "/builds/x/events", "/builds/x/log", "/builds/0000000000000000"),
        *("/builds/../builds/x", "/builds/%2e%2e%2fx/log", "/builds/x/y/z", "/buildsx"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_not_there(history: History, path: str, method: str) -> None:
    """What is unknown is answered so, in JSON."""
    async with serving(history=history) as server:
        answer = await server.ask(path, method)
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
        if method == "GET":
            assert answer.error()["message"]


@pytest_twisted.ensureDeferred
async def test_head(history: History) -> None:
    """HEAD has the headers of GET, and ends at once, even for a build that runs."""
    record = build(history)
    async with serving(history=history) as server:
        for path in ("/builds", f"/builds/{record.id}"):
            got, head = await server.ask(path), await server.ask(path, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers.get("content-length") == got.headers.get("content-length")
        for path in (f"/builds/{record.id}/events", f"/builds/{record.id}/log"):
            head = await server.ask(path, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-type"].startswith("text/")


class Slow(Protocol):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


@pytest_twisted.ensureDeferred
async def test_slow_clients(tmp_path: Path) -> None:
    """A client that takes nothing holds up neither the build nor the daemon's memory, and is told
    all of it once it does."""
    history = await open_history(tmp_path, BufferBounds())
    record = begin(history)
    async with serving(history=history) as server:
        slow = await server.connect(Slow())
        transport: Any = slow.transport
        request = (
            b"GET /builds/%b/events HTTP/1.0\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n"
        )
        transport.write(request % record.id.encode())
        for start in range(0, 200_000, 2000):
            print_lines(record, 2000, start)
            await moment(0)
        record.done("sha256:x")
        await history.stop()
        assert len(slow.received) == 0
        transport.resumeProducing()
        await slow.closed
        assert numbers(bytes(slow.received)) == list(range(1, 200_002))


@pytest_twisted.ensureDeferred
async def test_clients_that_leave(history: History) -> None:
    """Clients that leave while they wait, or are sent something, are forgotten, and that is
    no error."""
    record = begin(history)
    with capturedLogs() as captured:
        async with serving(history=history) as server:
            for count in (0, 50_000):
                print_lines(record, count)
                slow = await server.connect(Slow())
                transport: Any = slow.transport
                transport.write(
                    b"GET /builds/%b/log HTTP/1.1\r\nHost: x\r\n\r\n" % record.id.encode()
                )
                await moment(0.1)
                transport.abortConnection()
                await slow.closed
            print_lines(record, 10)
            record.done("sha256:x")
    await history.stop()
    assert not [event for event in captured if "log_failure" in event]


class Sink:
    """What a stream needs of a request."""

    network = "192.0.2.1"

    def __init__(self) -> None:
        self.channel = self.site = self
        self.bounds = SiteBounds(HttpLimits())
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        del self.producer


@pytest_twisted.ensureDeferred
async def test_signs_of_life(history: History) -> None:
    """When nothing happens, comments keep a connection alive, unless the client takes nothing."""
    record = begin(history)
    subscription = await history.follow(record.id, 0)
    assert subscription is not None
    clock, sink = Clock(), Sink()
    arguments: Any = (clock, sink, subscription, SERVER_SENT)
    sending = Deferred.fromCoroutine(forms.send_events(*arguments))
    begun = sink.written
    clock.pump([forms.HEARTBEAT] * 3)
    assert sink.written == begun + 3 * SERVER_SENT.heartbeat
    sink.producer.pauseProducing()
    clock.pump([forms.HEARTBEAT] * 3)
    assert sink.written == begun + 3 * SERVER_SENT.heartbeat
    sink.producer.resumeProducing()
    record.done("sha256:x")
    await sending
    assert not clock.getDelayedCalls()
    assert len(server_sent(sink.written)) == 1
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_answers_name_the_build(history: History) -> None:
    """Whoever waits for a build is told where to watch it: in a redirect, in a refusal, in the
    answer; and whoever waits for none is not."""
    async with serving(hold=0.05, history=history) as server:
        path, link = "/v2/a/manifests/latest", '</builds/0123456789abcdef>; rel="monitor"'
        assert "link" not in (await server.ask("/v2/known/manifests/latest")).headers
        server.builder.build = "0123456789abcdef"
        assert (await server.ask(path)).headers["link"] == link
        server.builder.gate = Deferred()
        redirected = await server.ask(path)
        assert (redirected.status, redirected.headers["link"]) == (307, link)
        server.builder.gate = succeed(None)
        server.builder.error = UnknownPackage("htpo")
        refused = await server.ask(path, headers={"Host": "registry.example:5000"})
        assert refused.headers["link"] == link
        address = "http://registry.example:5000/builds/0123456789abcdef"
        assert refused.error()["message"].endswith(f"; see {address}")
        assert refused.reason.endswith(address)
        server.builder.error = BuildFailed("x-1", "it is broken", ["one", "two"])
        cause, *log = (await server.ask(path)).error()["message"].splitlines()
        assert re.fullmatch(
            r"x-1 failed to build: it is broken; see http://127\.0\.0\.1:\d+/builds/"
            "0123456789abcdef; the end of its log:",
            cause,
        )
        assert log == ["one", "two"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["evil.example/x?", "a b", "<x>", "a@b", "a, b", ""])
async def test_only_hosts_are_repeated(history: History, host: str) -> None:
    """A ``Host`` that is more than a host comes back in no answer."""
    async with serving(history=history) as server:
        server.builder.build = "0123456789abcdef"
        server.builder.error = UnknownPackage("htpo")
        request = f"GET /v2/htpo/manifests/latest HTTP/1.0\r\nHost: {host}\r\n\r\n"
        answer = await server.send(request.encode())
        assert b" 400 " in answer.splitlines()[0]
        assert b"/builds/" not in answer
