"""What people see: in browsers as pages, in terminals as text."""

from pathlib import Path

import pytest
import pytest_twisted

from nixery.history.history import History
from nixery.history.summary import BuildHead
from nixery.interfaces import Provenance
from nixery.model.events import (
    BuildStarted,
    Collided,
    LogLine,
)
from nixery.model.service_errors import StorageUnavailable
from tests.history.histories import begin
from tests.web.pages.browsing import EVIL, HTML, made, page
from tests.web.server import reactor, serving


class Unreadable(History):
    """A history that says where it can't be read."""

    def running(self) -> list[BuildHead]:
        raise StorageUnavailable("Input/output error ('/srv/state/history/x')")


@pytest_twisted.ensureDeferred
async def test_no_path_of_this_machine(tmp_path: Path) -> None:
    """A page that can't be shown says why, and not where files lie."""
    async with serving(history=Unreadable(reactor, str(tmp_path))) as server:
        for accept in ("text/html", "*/*"):
            answer = await server.ask("/", headers={"Accept": accept})
            assert answer.status == 503
            assert b"Input/output" in answer.body
            assert b"srv" not in answer.body


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
        assert "broken-1.0 failed: <script>alert(1)</script>&amp;the last line" in elements.text
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
        for path in ("/", "/images/none"):
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
        assert "the last one known" in elements.text
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
