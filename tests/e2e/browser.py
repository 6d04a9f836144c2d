"""A real browser, with what tests look at pages by."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import axe_playwright_python  # type: ignore[import-untyped]
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.waiting import HUNG

T = TypeVar("T")

WIDTHS = {390: 844, 1024: 768, 1600: 1000}
"""Of windows, in pixels, and their heights: a telephone, a small and a large screen."""
_AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


Made = TypeVar("Made", Page, BrowserContext)


def _patient(make: Callable[..., Made]) -> Callable[..., Made]:
    """Have what is made wait as long as all tests do."""

    def patient(*arguments: Any, **options: Any) -> Made:
        made = make(*arguments, **options)
        made.set_default_timeout(HUNG * 1000)
        return made

    return patient


def in_browser(work: Callable[[Browser], T], *flags: str) -> T:
    """Do something with a browser of its own.

    In a thread of its own too: Playwright shares none with a running reactor.

    :param flags: more options of the browser.
    """

    def run() -> T:
        program = shutil.which("chromium") or "chromium"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])
            expect.set_options(timeout=HUNG * 1000)
            # A browser has no limits of its own that its pages would begin with.
            browser.new_page = _patient(browser.new_page)  # type: ignore[method-assign]
            browser.new_context = _patient(browser.new_context)  # type: ignore[method-assign]
            try:
                return work(browser)
            finally:
                browser.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page: who can't use it, and why.

    https://github.com/dequelabs/axe-core
    """
    # By the debugger: the page's own policy allows no script of anybody else's.
    page.evaluate(_AXE.read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    return [
        f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]
    ]
