"""What people see: in browsers as pages, in terminals as text."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nixery.history.history import History
from nixery.history.summary import BuildHead
from nixery.interfaces import Provenance
from nixery.model.events import (
    BuildStarted,
    Collided,
    Event,
    Found,
    Furnished,
    Grouped,
    LogLine,
    Measured,
    Realised,
    Resolved,
)
from nixery.model.service_errors import SourceUnavailable, StorageUnavailable
from nixery.web.pages.start_page import Start, start_text
from tests.history.histories import begin, open_history
from tests.web.server import MANIFEST, Answer, Server, reactor, serving

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
EVIL = "<script>alert(1)</script>&amp;\x1b[31m"


class Elements(HTMLParser):
    """The names and attributes of a page's elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture
def history(tmp_path: Path) -> History:
    made: History = pytest_twisted.blockon(Deferred.fromCoroutine(open_history(tmp_path)))
    return made


async def page(server: Server, path: str, status: int = 200) -> Elements:
    """A page as a browser gets it, which is a page that browsers may trust."""
    answer = await server.ask(path, headers=HTML)
    assert answer.status == status, answer.body
    check_frame(answer)
    elements = Elements(answer.body.decode())
    for attributes in elements.of("script"):
        assert re.fullmatch(r"/static/[0-9a-f]{16}/[a-z]+\.js", attributes["src"])
    assert not [a for _, a in elements.elements if any(name.startswith("on") for name in a)]
    assert elements.of("html") == [{"lang": "en"}]
    assert len(elements.of("h1")) == len(elements.of("main")) == 1
    return elements


def check_frame(answer: Answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def made(history: History, name: str = "git/jq", *furnished: Furnished) -> str:
    """A build that was done."""
    record = begin(history, name)
    events: list[Event] = [
        Resolved("the folder x", "1"),
        *furnished,
        Found("jq", "jq", f"jq-1.6{EVIL}"),
        Realised(12, 345_000_000),
        Measured("jq", 3, 67_800_000),
        Grouped(3, 1),
    ]
    for event in events:
        record.emit(event)
    record.done(str(MANIFEST.digest))
    return record.id


@pytest_twisted.ensureDeferred
async def test_the_start_page(history: History) -> None:
    """It says what to type for this host, what is served, what was made, and what is running."""
    made(history)
    running = begin(history, "slow")
    async with serving(history=history) as server:
        elements = await page(server, "/")
        host = f"127.0.0.1:{server.port}"
        assert f"docker pull {host}/shell/git/htop" in elements.text
        assert "git:https://example.com/x" in elements.text
        links = {attributes.get("href") for attributes in elements.of("a")}
        assert {"/images/git/jq:latest", f"/builds/{running.id}"} <= links
        for attributes in elements.of("link") + elements.of("script"):
            address = attributes.get("href") or attributes["src"]
            assert address == "data:," or (await server.ask(address)).status == 200


@pytest_twisted.ensureDeferred
async def test_a_name_without_scripts() -> None:
    """The form, sent by a browser without scripts, gives the commands, and keeps what is in it."""
    async with serving() as server:
        host = f"127.0.0.1:{server.port}"
        query = "?packages=git%20JQ%2Fcurl+shell&arm64=on&tag=v1%3Cscript%3E"
        elements = await page(server, f"/{query}")
        assert f"docker pull {host}/shell/arm64/git/jq/curl:v1<script>" in elements.text
        assert f"FROM {host}/shell/arm64/git/jq/curl:v1<script>" in elements.text
        assert (
            f"docker pull {host}/ci/user/git:"
            in (await page(server, "/?packages=git+user/ci")).text
        )
        fields = {field["id"]: field for field in elements.of("input")}
        assert fields["packages"]["value"] == "git JQ/curl shell"
        assert "checked" in fields["arm64"]
        assert "checked" not in fields["shell"]
        assert f"docker pull {host}/shell:latest" in (await page(server, "/")).text


@pytest_twisted.ensureDeferred
async def test_a_source_that_cannot_be_read(history: History) -> None:
    """The start page says why nothing is known of the source, and is there."""
    async with serving(history=history) as server:
        server.builder.error = SourceUnavailable("the folder x", EVIL)
        elements = await page(server, "/")
        assert "can't be read" in elements.text
        assert "<script>alert(1)" in elements.text


class Unreadable(History):
    """A history that says where it can't be read."""

    def images(self) -> Iterator[BuildHead]:
        raise StorageUnavailable("Input/output error ('/srv/state/history/x')")

    def latest(self, name: str, tag: str) -> BuildHead | None:
        raise StorageUnavailable("Input/output error ('/srv/state/history/x')")


@pytest_twisted.ensureDeferred
async def test_no_path_of_this_machine(tmp_path: Path) -> None:
    """A page that can't be shown says why, and not where files lie."""
    async with serving(history=Unreadable(reactor, str(tmp_path))) as server:
        for path in ("/", "/images/hello"):
            for accept in ("text/html", "*/*"):
                answer = await server.ask(path, headers={"Accept": accept})
                assert answer.status == 503
                assert b"Input/output" in answer.body
                assert b"srv" not in answer.body


@pytest_twisted.ensureDeferred
async def test_an_image(history: History) -> None:
    """It says what is in it, and how to use it, pinned by its digest; with and without a tag."""
    made(history)
    async with serving(history=history) as server:
        for path in ("/images/git/jq:latest", "/images/git/jq"):
            elements = await page(server, path)
            assert f"git/jq@{MANIFEST.digest}" in elements.text
            assert "12 store paths, 345 MB" in elements.text
            assert "67.8 MB" in elements.text
            assert "jq-1.6<script>alert(1)</script>&amp;" in elements.text
        assert "not known" in (await page(server, "/images/other:latest", 404)).text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("furnished", "runs", "others"),
    [
        (None, [], []),
        (Furnished((), (), (), ()), [], []),
        (Furnished((), ("bash",), ("git",), ("bash", "sleep")), [""], ["bash", "sleep"]),
        (Furnished(("/bin/x",), (), ("y",), ()), [""], ["pod"]),
        (Furnished((), (), ("git", "a b"), ("sh",)), [" git", " 'a b'"], ["sh"]),
    ],
)
async def test_commands_that_an_image_can_run(
    history: History, furnished: Furnished | None, runs: list[str], others: list[str]
) -> None:
    """The page offers what the image starts by itself, or else its programs; a shell for other
    pods and something that sleeps where there is one."""
    made(history, "git/jq", *([furnished] if furnished else []))
    async with serving(history=history) as server:
        start = f"docker run --rm -ti 127.0.0.1:{server.port}/git/jq:latest"
        elements = await page(server, "/images/git/jq")
        assert re.findall(rf"{start}(.*?)(?=Copy)", elements.text, re.DOTALL) == runs
        text = (await server.ask("/images/git/jq")).body.decode()
        assert [line.strip() for line in text.splitlines() if "run" in line] == [
            f"{start}{each}" for each in runs
        ]
        shells = [each for each in others if each in ("bash", "sh")]
        assert re.findall(r"kubectl debug \S+ POD \S+ -- (bash|sh)", elements.text) == shells
        assert ("command: [sleep" in elements.text) == ("sleep" in others)
        assert ("containers:" in elements.text) == bool({"sleep", "pod"} & set(others))


@pytest_twisted.ensureDeferred
async def test_other_names_of_an_image(history: History) -> None:
    """Packages may be in any order; ``library/NAME`` is ``NAME``, as in pulls, and no other name
    with ``library`` is, unless the set has a package of that name."""
    made(history)
    made(history, "hello")
    async with serving(history=history) as server:
        for path, status in {
            **{"jq/git": 200, "library/hello": 200, "library/hello:latest": 200},
            **{"hello/library": 404, "library/git/jq": 404, "library/jq": 404, "HELLO": 404},
            **{"hello:v1": 404, "hello:": 200, "hello:-": 404},
        }.items():
            assert (await server.ask(f"/images/{path}")).status == status, path
        made(history, "hello/library")
        title = (await page(server, "/images/library/hello")).text
        assert "hello/library:latest" in title


@pytest_twisted.ensureDeferred
async def test_a_build_that_runs(history: History) -> None:
    """It shows what is built, and follows; a browser without scripts asks again."""
    record = begin(history, "slow")
    record.emit(BuildStarted(f"slow-1.0{EVIL}"))
    record.emit(LogLine("slow-1.0", EVIL))
    async with serving(history=history) as server:
        elements = await page(server, f"/builds/{record.id}")
        assert "slow-1.0<script>alert(1)</script>" in elements.text
        assert [a for a in elements.of("meta") if a.get("http-equiv") == "refresh"]
        (state,) = (a for _, a in elements.elements if a.get("id") == "build")
        assert (state["data-id"], state["data-state"]) == (record.id, "running")
        assert "0 of 1" in elements.text
        assert (await server.ask(f"/builds/{record.id}")).headers["content-type"] == (
            "application/json"
        )


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("count", [0, 2, 300])
async def test_what_was_lost(history: History, count: int) -> None:
    """A build's page tells which files of packages, or of the system, are not in the image."""
    record = begin(history, "git")
    for number in range(count):
        record.emit(Collided(f"etc/{number}{EVIL}", "git", "the system"))
    record.done("sha256:x")
    async with serving(history=history) as server:
        elements = await page(server, f"/builds/{record.id}")
        assert ("/etc/1<script>alert(1)</script>" in elements.text) == (count > 0)
        assert elements.text.count("the system") == min(count, 200)
        assert ("There are 100 more" in elements.text) == (count == 300)


@pytest_twisted.ensureDeferred
async def test_a_build_that_failed(history: History) -> None:
    """The cause is there, as text, with what to do; it is not asked for again and again."""
    record = begin(history, "broken")
    record.failed(f"broken-1.0 failed: {EVIL}\nthe last line", "broken-1.0")
    async with serving(history=history) as server:
        elements = await page(server, f"/builds/{record.id}")
        assert "broken-1.0 failed: <script>alert(1)</script>&amp;\nthe last line" in elements.text
        assert "\x1b" not in elements.text
        assert f"docker pull 127.0.0.1:{server.port}/broken:latest" in elements.text
        assert not [a for a in elements.of("meta") if a.get("http-equiv") == "refresh"]
        assert "not known" in (await page(server, "/builds/0000", 404)).text


@pytest_twisted.ensureDeferred
async def test_terminals(history: History) -> None:
    """Whoever asks for no HTML gets text, whose lines fit into 80 columns, but for names to pull:
    these are whole."""
    made(history)
    made(history, "/".join(["a-package-with-a-long-name"] * 9))
    begin(history, "slow")
    async with serving(history=history) as server:
        for path in ("/", "/images/git/jq", "/images/none"):
            answer = await server.ask(path)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            text = answer.body.decode()
            assert "\x1b" not in text
            wide = [line for line in text.splitlines() if len(line) > 80]
            assert all(line.endswith(":latest") or "@" in line for line in wide)
        assert "docker pull 127.0.0.1:" in (await server.ask("/")).body.decode()


@pytest_twisted.ensureDeferred
async def test_nothing_of_builds(history: History) -> None:
    """Where builds are not to be seen, neither they nor their images have pages."""
    id = made(history)
    async with serving() as server:
        server.builder.made_from = Provenance("git:y", "2", stale=True)
        elements = await page(server, "/")
        assert "the last that is known" in elements.text
        assert "/images/" not in str(elements.elements)
        assert (await server.ask(f"/builds/{id}", headers=HTML)).status == 404
        assert (await server.ask("/images/git/jq", headers=HTML)).status == 404


@pytest_twisted.ensureDeferred
async def test_no_logs(history: History) -> None:
    """Where logs are not to be seen, a build's page has none, nor the ends that errors quote."""
    record = begin(history, "broken")
    record.failed("broken-1.0 failed; the end of its log:\nsecret", "broken-1.0")
    async with serving(history=history, logs=False) as server:
        elements = await page(server, f"/builds/{record.id}")
        assert "secret" not in elements.text
        assert not [a for _, a in elements.elements if a.get("id") == "log"]


@pytest.mark.parametrize(
    "path", ["/static/0/none.js", "/static/../setup.py", "/static/x", "/static/"]
)
@pytest_twisted.ensureDeferred
async def test_other_files(path: str) -> None:
    """No other file than those of the pages is to be had."""
    async with serving() as server:
        assert (await server.ask(path)).status == 404


def test_the_example_is_one_that_can_be_pulled() -> None:
    """The page and its text name the image that they are given as an example, and no other."""
    start = Start("h", None, "", [], [], "shell/jq")
    assert "docker pull h/shell/jq\n" in start_text(start)
    assert "htop" not in start_text(start)
