"""The pages of images and packages, as a browser shows them."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.browser import WIDTHS, in_browser, violations
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix

IMAGES = ("shell/git/python3", "shell/git", "jq")
PATHS = (
    *("/images/shell/git/python3", "/images/jq?why=libc6", "/images/jq?why=nothing"),
    *("/compare", "/compare?from=shell/git&to=shell/git/python3", "/compare?from=jq&to=none"),
    *("/packages?q=git", "/packages?q=qqqq", "/packages/git", "/images/none", "/packages/none"),
)
OUTSIDE = """
() => [...document.querySelectorAll(".treemap svg")].flatMap(cell => {
  const around = cell.querySelector("rect").getBoundingClientRect();
  return [...cell.querySelectorAll("text")].filter(label => {
    const box = label.getBoundingClientRect();
    return box.width && (box.right > around.right || box.bottom > around.bottom);
  }).map(label => label.textContent);
})
"""
"""The labels of the map that are not within their cells."""


@pytest.fixture(scope="module")
def pictured(daemon: Daemon) -> Daemon:
    """A daemon with images, and an index of packages."""
    for name in IMAGES:
        assert daemon.pull(name).status == 200
    wait_until(lambda: daemon.get("/packages?q=git").json()["ready"])
    return daemon


def at_each_width(page: Page) -> list[str]:
    """What is wrong with a page at any width."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        found += [f"at {width}: {each}" for each in violations(page)]
        found += [f"at {width}: {label} is cut" for label in page.evaluate(OUTSIDE)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"at {width}: it is wider than the window")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_them(pictured: Daemon, scheme: Any) -> None:
    """axe-core finds nothing wrong with any page, at three widths, light or dark; none is wider
    than its window, and labels in the map are whole or not there."""

    def use(browser: Browser) -> dict[str, list[str]]:
        page = browser.new_page(color_scheme=scheme)
        found = {}
        for path in PATHS:
            page.goto(f"http://{pictured.host}{path}")
            page.wait_for_load_state("networkidle")
            found[path] = at_each_width(page)
        return found

    assert in_browser(use) == {path: [] for path in PATHS}


def test_from_picture_to_picture(pictured: Daemon) -> None:
    """A part of the map leads to why it is there; the forms lead to another store path and to
    another image, and what is found there to packages, and back to images."""

    def use(browser: Browser) -> None:
        page = browser.new_page()
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text))
        page.goto(f"http://{pictured.host}/images/shell/git/python3")
        page.locator(".treemap a", has_text="perl").first.click()
        expect(page.locator("#why .chain")).to_contain_text("perl-")
        expect(page.locator("#why .chain li")).to_have_count(2)
        page.get_by_role("combobox", name="Store path").fill("python3")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#why")).to_contain_text("It is one of the packages named")
        page.get_by_label("Another tag or name").fill("shell/git")
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", name="Removed")).to_be_visible()
        removed = page.get_by_role("region", name="Removed")
        expect(removed.get_by_role("rowheader", name="python3", exact=True)).to_be_visible()
        page.get_by_role("searchbox", name="Search packages").fill("python3")
        page.keyboard.press("Enter")
        page.get_by_role("main").get_by_role("link", name="python3", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("python3")
        page.get_by_role("link", name="shell/git/python3:latest").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("shell/git/python3:latest")
        assert errors == []

    in_browser(use)


def test_without_scripts(pictured: Daemon) -> None:
    """All of it is there for a browser without scripts, its tabs too."""

    def use(browser: Browser) -> None:
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(f"http://{pictured.host}/images/shell/git/python3")
        expect(page.get_by_text(f"docker pull {pictured.host}/shell/git/python3")).to_be_visible()
        page.get_by_text("Dockerfile", exact=True).click()
        expect(page.get_by_text(f"FROM {pictured.host}/shell/git/python3@")).to_be_visible()
        expect(page.locator(".treemap rect").first).to_be_visible()

    in_browser(use)


def test_an_image_that_another_daemon_made(
    pictured: Daemon, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """An image that is in the storage has its page, whoever made it: by name as soon as it was
    pulled, and by digest at once."""
    other = start_daemon(tmp_path / "other", STORAGE_PATH=str(pictured.storage))
    digest = pictured.pull("jq").headers["Docker-Content-Digest"]
    assert other.get(f"/images/jq@{digest}", Accept="text/html").status == 200
    assert other.pull("jq").status == 200
    page = other.get("/images/jq", Accept="text/html")
    assert page.status == 200
    assert b"store paths" in page.body
