"""The frame of all pages."""

import pytest
import pytest_twisted

from nixery.history.history import History
from nixery.requirements import version
from nixery.web.pages.page import STATIC
from tests.history.histories import begin
from tests.web.pages.browsing import HTML, Elements, page
from tests.web.server import serving

LARGEST = 60_000
"""Bytes of a page with its style."""


def links(elements: Elements) -> list[str]:
    """Where a page leads, in order."""
    return [each["href"] for each in elements.of("a")]


@pytest_twisted.ensureDeferred
async def test_parts_of_the_site(history: History) -> None:
    """Every page leads to the parts of the site, to its own contents first, and tells the version;
    the part that it belongs to is marked."""
    async with serving(history=history) as server:
        for path, status in {"/": 200, "/builds": 200, "/docs/names": 200, "/nothing": 404}.items():
            elements = await page(server, path, status)
            assert links(elements)[:2] == ["#main", "/"]
            assert {"/builds", "/docs", "/api", "/#source"} <= set(links(elements))
            assert f"Nixery {version()}" in elements.text
            (search,) = (each for each in elements.of("form") if each.get("role") == "search")
            assert search["action"] == "/packages"
            here = [e["href"] for e in elements.of("a") if e.get("aria-current") == "page"]
            part = f"/{path.split('/')[1]}"
            assert part in here or part not in ("/builds", "/docs")


@pytest_twisted.ensureDeferred
async def test_parts_that_are_not_there() -> None:
    """Where builds are not to be seen, nothing leads to them or to a search."""
    async with serving() as server:
        elements = await page(server, "/")
        assert "/builds" not in links(elements)
        assert not [each for each in elements.of("form") if each.get("role") == "search"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "path", ["/", "/builds", "/docs", "/docs/images", "/docs/settings", "/api"]
)
async def test_small(history: History, path: str) -> None:
    """A page and its style are no more than 60 KB, however long names and errors are."""
    for number in range(100):
        record = begin(history, "/".join([f"long-package-name-{number}"] * 9))
        if number > 20:
            record.failed("x & y " * 1000, outcome="BuildFailed")
    async with serving(history=history) as server:
        answer = await server.ask(path, headers=HTML)
        assert len(answer.body) + len(STATIC["style.css"].content) < LARGEST
