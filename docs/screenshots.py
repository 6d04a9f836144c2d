"""Takes the pictures in this folder: ``PYTHONPATH=. python docs/screenshots.py``.

It uses the tests' package set, daemon and browser.
"""

import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser

from tests.e2e.browser import NARROW, WIDE, in_browser
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet, make_package_set

HERE = Path(__file__).parent
SIZES = {"wide": WIDE, "narrow": NARROW}


def take(daemon: Daemon, browser: Browser) -> None:
    """Every page, light and dark, wide and narrow."""
    builds = {head["name"]: head["id"] for head in daemon.get("/builds").json()}
    paths = {
        "start": "/",
        "image": "/images/shell/git",
        "running": f"/builds/{builds['slow']}",
        "failed": f"/builds/{builds['broken']}",
    }
    for scheme in ("light", "dark"):
        for size, viewport in SIZES.items():
            page = browser.new_page(viewport=viewport, color_scheme=scheme)
            for name, path in paths.items():
                page.goto(f"http://{daemon.host}{path}")
                if name == "start":
                    page.get_by_label("Packages, separated").fill("python")
                    page.locator("#found button").first.wait_for()
                page.wait_for_timeout(500)
                page.screenshot(path=HERE / f"{name}-{scheme}-{size}.png")
            page.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        packages = make_package_set().with_slow(Path(name))
        take_all(Path(name) / "state", packages)


def take_all(state: Path, packages: PackageSet) -> None:
    """Take the pages of a daemon that has made some images, and is at one."""
    with running(state, packages.environ) as daemon:
        for image in ("shell/git", "shell/git/htop", "jq", "broken"):
            daemon.pull(image)
        pull = threading.Thread(target=daemon.pull, args=("slow",))
        pull.start()
        in_browser(lambda browser: take(daemon, browser))
        daemon.stop()
        pull.join()


if __name__ == "__main__":
    main()
