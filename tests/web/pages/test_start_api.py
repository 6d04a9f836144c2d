"""The start page, and its parts that are asked for while somebody types."""

from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted

from nixery.access.guard import Guard
from nixery.history.history import History
from nixery.interfaces import SearchResult
from nixery.model.events import Queued, Resolved
from nixery.model.image import META
from nixery.model.package_set import Package
from nixery.model.rules import Patterns, Rules
from nixery.model.service_errors import SourceUnavailable
from nixery.model.suggestions import Suggestion
from nixery.model.typed_name import TypedName
from nixery.web.auth import Auth
from nixery.web.pages.naming_part import NamedImage
from nixery.web.pages.start_page import Activity, Start, start_text
from tests.history.histories import begin
from tests.web.fake_catalogue import FakeCatalogue
from tests.web.pages.browsing import EVIL, Elements, page
from tests.web.pages.gallery import Gallery, showing
from tests.web.server import Server, serving


@pytest_twisted.ensureDeferred
async def test_the_start_page(history: History, tmp_path: Path) -> None:
    """It says what to type for this host, what is served, what is stored, and what is running."""
    gallery = Gallery(tmp_path)
    await gallery.add("git/jq")
    running = begin(history, "slow")
    async with showing(gallery, history=history) as server:
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
    """What is typed, sent by a browser without scripts, gives the commands, and stays in the
    field."""
    async with serving() as server:
        host = f"127.0.0.1:{server.port}"
        elements = await page(server, "/?q=git%20JQ%2Fcurl+shell+arm64%3Av1")
        assert f"docker pull {host}/shell/arm64/git/jq/curl:v1" in elements.text
        assert f"podman run --rm -ti --tls-verify=false {host}/shell/arm64/git" in elements.text
        assert f"FROM {host}/shell/arm64/git/jq/curl:v1" in elements.text
        (field,) = (each for each in elements.of("input") if each.get("id") == "typed")
        assert field["value"] == "git JQ/curl shell arm64:v1"
        pasted = await page(server, f"/?q=docker+pull%20{host}/ci/git")
        assert f"docker pull {host}/ci/git" in pasted.text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("typed", "fault"),
    [
        ("git..", "'git..' is not a valid package name"),
        ("git:-x", "the tag '-x' is not valid"),
        ("user", "it names no package"),
        ("<script>", "'<script>' is not a valid package name"),
        ("x" * 260, "the limit is 255"),
    ],
)
async def test_what_is_wrong_with_a_name(typed: str, fault: str) -> None:
    """A name that no image can have gives no commands, but the reason, as a pull would."""
    async with serving() as server:
        parts = await typing(server, typed)
        assert fault in parts.text
        assert "docker pull" not in parts.text


async def typing(server: Server, typed: str) -> Elements:
    """The parts of the page for what is typed."""
    answer = await server.ask(f"/name?q={quote(typed)}")
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return Elements(answer.body.decode())


def options(parts: Elements) -> list[str]:
    """The texts that suggestions put into the field."""
    return [each["data-typed"] for each in parts.of("li") if each.get("role") == "option"]


@pytest_twisted.ensureDeferred
async def test_suggestions() -> None:
    """The last word finds packages and meta-packages, an empty field these alone; a program tells
    which package has it. What others wrote is text."""
    catalogue = FakeCatalogue()
    async with serving(catalogue=catalogue) as server:
        parts = await typing(server, "shell/git rg")
        assert options(parts) == ["shell/git/ripgrep/"]
        assert "(it has the program rg)" in parts.text
        assert "<script>alert('é')</script>" in parts.text
        assert options(await typing(server, "ripgr")) == ["ripgrep/"]
        assert "program" not in (await typing(server, "ripgr")).text
        assert options(await typing(server, "git/sh"))[0] == "shell/git/"
        assert options(await typing(server, "")) == [f"{each}/" for each in META]
        assert options(await typing(server, "git/")) == []
        server.builder.offered = ["latest", "v1", "v2"]
        assert options(await typing(server, "git:v")) == ["git:v1", "git:v2"]
        server.builder.error = SourceUnavailable("x", "gone")
        assert options(await typing(server, "git:v")) == []


@pytest_twisted.ensureDeferred
async def test_an_index_in_the_making() -> None:
    """While there is no index, the page says so, and asks again; not if there will be none."""
    catalogue = FakeCatalogue(found=SearchResult(ready=False))
    async with serving(catalogue=catalogue) as server:
        parts = await typing(server, "git")
        assert "index is being built" in parts.text
        assert [each for each in parts.of("ul") if "data-again" in each]
        catalogue.found = SearchResult(ready=False, fault="x")
        assert "index is being built" not in (await typing(server, "git")).text


@pytest_twisted.ensureDeferred
async def test_packages_that_are_not_there() -> None:
    """A word that no package has for a name is told, with what may be meant, unless more of it may
    be typed."""
    catalogue = FakeCatalogue(lacking=["rg"], meant=[Suggestion("ripgrep", "rg")])
    async with serving(catalogue=catalogue) as server:
        parts = await typing(server, "rg/git")
        assert "No package is called rg; did you mean ripgrep?" in parts.text
        assert {"href": "/?q=git/ripgrep"} in parts.of("a")
        assert "No package" not in (await typing(server, "git/rg")).text
        described = Package(("jq",), "jq", "jq-1", "jq", "1", "unlike rg, it reads JSON")
        for found in ([], [described]):
            catalogue.found = SearchResult(ready=True, packages=found)
            assert "did you mean ripgrep?" in (await typing(server, "git/rg")).text


@pytest_twisted.ensureDeferred
async def test_only_what_the_client_may_pull(history: History, tmp_path: Path) -> None:
    """Neither suggestions nor lists have what the client may not pull."""
    gallery = Gallery(tmp_path)
    await gallery.add("ripgrep")
    begin(history, "ripgrep/git")
    catalogue = FakeCatalogue(lacking=["rg"], meant=[Suggestion("ripgrep", "rg")])
    for pattern, may in (("ripgrep", False), ("other", True)):
        auth = Auth(Guard(rules=partial(Rules, Patterns(deny=(pattern,)))))
        async with showing(gallery, auth, history, catalogue) as server:
            assert ("ripgrep" in (await typing(server, "rg")).text) == may
            assert ("did you mean" in (await typing(server, "rg/")).text) == may
            activity = Elements((await server.ask("/activity")).body.decode())
            assert ("ripgrep:latest" in activity.text) == may
            assert ("ripgrep/git" in activity.text) == may
            assert ("Ready." in (await typing(server, "ripgrep")).text) == may


@pytest_twisted.ensureDeferred
async def test_what_happens_meanwhile(history: History) -> None:
    """Builds that run or wait are told with their state, and nothing where there is none."""
    async with serving(history=history) as server:
        assert b"<h2>" not in (await server.ask("/activity")).body
        record = begin(history, f"git{EVIL}")
        record.emit(Queued(1, 1))
        shown = Elements((await server.ask("/activity")).body.decode())
        assert "queued" in shown.text
        assert "<script>alert(1)" in shown.text
        record.emit(Resolved("x", "1"))
        assert "running" in Elements((await server.ask("/activity")).body.decode()).text


@pytest_twisted.ensureDeferred
async def test_a_source_that_cannot_be_read(history: History) -> None:
    """The start page says why nothing is known of the source, and is there."""
    async with serving(history=history) as server:
        server.builder.error = SourceUnavailable("the folder x", EVIL)
        elements = await page(server, "/")
        assert "can't be read" in elements.text
        assert "<script>alert(1)" in elements.text


def test_the_example_is_one_that_can_be_pulled() -> None:
    """The page and its text name the image that they are given as an example, and no other."""
    naming = NamedImage("h", False, "", TypedName(), "shell/jq")
    text = start_text(Start(naming, Activity(), None))
    assert "docker pull h/shell/jq\n" in text
    assert "htop" not in text
