"""Takes the pictures of docs/screenshots: ``PYTHONPATH=. python docs/screenshots.py FOLDER``.

It uses the tests' package set, daemon and browser. ``docs/pages.md`` shows the pictures.
"""

import io
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from tests.e2e.browser import WIDTHS, in_browser
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set
from tests.waiting import wait_until

IMAGES = ("hello", "jq", "shell/git", "shell/git/htop", "python3", "broken", "shell/gti", "jqq")
TALLEST = 1600
LARGEST = 60_000
"""Bytes of a picture."""
COLOURS = (48, 32, 16, 8)
"""Of a picture, the first that make it small enough."""


def paths_of(daemon: Daemon) -> dict[str, str]:
    """The pages, and their addresses."""
    builds = {head["name"]: head["id"] for head in daemon.get("/builds").json()}
    return {
        "start": "/",
        "named": "/?q=shell/git/jq",
        "image": "/images/shell/git",
        "compare": "/compare?from=shell/git&to=shell/git/htop",
        "packages": "/packages?q=git",
        "package": "/packages/git",
        "builds": "/builds",
        "running": f"/builds/{builds['slow']}",
        "failed": f"/builds/{builds['broken']}",
        "unknown": f"/builds/{builds['shell/gti']}",
        "api": "/api",
        "docs": "/docs",
        "document": "/docs/names",
        "nothing": "/images/nothing",
    }


def take(daemon: Daemon, browser: Browser, folder: Path) -> None:
    """Every page, light and dark, at each width."""
    for scheme in ("light", "dark"):
        for width, height in WIDTHS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
            )
            for name, path in paths_of(daemon).items():
                page.goto(f"http://{daemon.host}{path}")
                page.wait_for_load_state("load")
                if name == "start":
                    page.get_by_role("combobox").fill("shell/py")
                    # Not those of the empty field, which are there already.
                    page.get_by_role("option", name="python3").first.wait_for()
                elif name == "running":
                    page.get_by_text("step 2").first.wait_for()
                tall = page.evaluate("Math.max(innerHeight, document.body.scrollHeight)")
                clip = {"x": 0, "y": 0, "width": width, "height": min(TALLEST, tall)}
                taken = page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]
                (folder / f"{name}-{width}-{scheme}.png").write_bytes(small(taken))
            page.close()


def small(taken: bytes) -> bytes:
    """A picture with as many colours as its size allows."""
    for colours in COLOURS:
        made = io.BytesIO()
        with Image.open(io.BytesIO(taken)) as picture:
            few = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        few.save(made, "PNG", optimize=True)
        if len(made.getvalue()) <= LARGEST:
            break
    return made.getvalue()


def take_all(state: Path, packages: PackageSet, folder: Path) -> None:
    """Take the pages of a daemon that has made some images, and is at one."""
    with running(state, packages.environ) as daemon:
        for image in IMAGES:
            daemon.pull(image)
        wait_until(lambda: daemon.get("/packages?q=git").json()["ready"])
        pull = threading.Thread(target=daemon.pull, args=("slow",))
        pull.start()
        wait_until(lambda: daemon.get("/builds").json()[0]["name"] == "slow")
        try:
            in_browser(lambda browser: take(daemon, browser, folder))
        finally:
            daemon.stop()
            pull.join()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        packages = make_package_set().with_slow(Path(name))
        take_all(Path(name) / "state", packages, folder)


if __name__ == "__main__":
    main()
