"""The list of builds, in browsers and by state."""

import json
import re

import pytest_twisted

from nixery.history.history import History
from nixery.model.events import Queued, Resolved
from tests.history.histories import begin
from tests.web.pages.browsing import EVIL, HTML, made, page
from tests.web.server import serving


@pytest_twisted.ensureDeferred
async def test_builds_of_each_state(history: History) -> None:
    """Each state has its builds, for programs too, whether they are on disk already or not; only
    states that there are have a link."""
    waits, runs, fails = (begin(history, name) for name in ("waits", "runs", "fails"))
    waits.emit(Queued(1, 1))
    runs.emit(Resolved("x", "1"))
    async with serving(history=history) as server:
        shown = await page(server, "/builds")
        links = {a.get("href") for a in shown.of("a")}
        assert {"/builds", "/builds?state=running", "/builds?state=queued"} <= links
        assert links.isdisjoint({"/builds?state=failed", "/builds?state=done"})
        fails.failed("there is no package 'fails' in this package set", outcome="UnknownPackage")
        made(history, "done")
        names = {"queued": "waits", "running": "runs", "failed": "fails", "done": "done"}
        for saved in (False, True):
            for state, name in names.items():
                shown = await page(server, f"/builds?state={state}")
                heads = json.loads((await server.ask(f"/builds?state={state}")).body)
                assert [head["name"] for head in heads] == [name]
                assert {f"{other}:latest" in shown.text for other in names.values()} == {
                    True,
                    False,
                }
                assert f"{name}:latest" in shown.text
            if not saved:
                await history.stop()
        refused = await server.ask("/builds?state=other")
        assert (refused.status, refused.error()["code"]) == (400, "QUERY_INVALID")
        assert "must be one of" in (await page(server, "/builds?state=other", 400)).text


@pytest_twisted.ensureDeferred
async def test_pages_of_a_state(history: History) -> None:
    """A page leads to the next one, of the same state; each build is on one of them."""
    failed = []
    for _ in range(90):
        record = begin(history)
        record.failed("x")
        failed.append(f"/builds/{record.id}")
        begin(history).done("sha256:x")
    listed: list[str] = []
    async with serving(history=history) as server:
        path = "/builds?state=failed"
        while path:
            links = (await page(server, path)).of("a")
            listed += [a["href"] for a in links if a["href"].startswith("/builds/")]
            (path,) = [a["href"] for a in links if a.get("rel") == "next"] or [""]
    assert listed == failed[::-1]


@pytest_twisted.ensureDeferred
async def test_why_builds_failed(history: History) -> None:
    """A failed build has its cause, as text, and the likely fix: names that may be meant are links
    that keep the rest of the name."""
    record = begin(history, "shell/git/gti")
    message = f"there is no package 'gti' in this package set; did you mean git or {EVIL}?"
    record.failed(message, outcome="UnknownPackage")
    async with serving(history=history) as server:
        for path in ("/builds", f"/builds/{record.id}"):
            shown = await page(server, path)
            assert "there is no package 'gti'" in shown.text
            assert "<script>alert(1)" in shown.text
            assert {"href": "/?q=shell/git%3Alatest"} in shown.of("a")
        record = begin(history, "quiet")
        record.failed("x")
        shown = await page(server, f"/builds/{record.id}")
        assert "What to do" not in shown.text


@pytest_twisted.ensureDeferred
async def test_nothing_to_list(history: History) -> None:
    """A list without builds says so, and what begins one."""
    async with serving(history=history) as server:
        assert "No builds yet" in (await page(server, "/builds")).text
        assert "No builds are in this state" in (await page(server, "/builds?state=failed")).text


@pytest_twisted.ensureDeferred
async def test_commands_that_logs_would_name(history: History) -> None:
    """What a package prints gets into no command that is copied, even if it looks like a hint and
    the kind of the failure is not known, as of builds of older versions."""
    record = begin(history, "gti")
    hint = "there is no package 'gti' in this package set; did you mean $(reboot) or git;x?"
    record.failed(f"gti-1.0 failed; the end of its log:\n{hint}", outcome="")
    async with serving(history=history) as server:
        body = (await server.ask(f"/builds/{record.id}", headers=HTML)).body.decode()
        host = f"127.0.0.1:{server.port}"
    commands = re.findall(r"docker pull (.*?)</code>", re.sub("<wbr />", "", body))
    assert commands == [f"{host}/gti:latest"]
