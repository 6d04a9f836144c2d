"""The pages, as a browser shows them."""

import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browser import NARROW, WIDE, in_browser, violations
from tests.e2e.clients import Docker
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import PackageSet

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

EVIL_SET = """
{{ system ? builtins.currentSystem }}:
import {set} {{ inherit system; }} // {{
  evil = derivation {{
    name = "evil-1.0"; inherit system; builder = "/bin/sh";
    args = [ "-c" ''
      echo "<script>document.title = 1</script>"; echo "<img src=x onerror=document.title=1>"
      exit 3
    '' ];
  }} // {{
    version = "<script>document.title = 3</script>";
    meta.description = "evil <img src=x onerror=document.title=4>";
  }};
}}
"""


def builds_of(daemon: Daemon) -> dict[str, str]:
    """The latest build of each image."""
    return {head["name"]: head["id"] for head in reversed(daemon.get("/builds").json())}


def test_a_name_that_pulls(daemon: Daemon, docker: Docker) -> None:
    """The start page suggests packages of the set, and gives a command that pulls."""

    def use(browser: Browser) -> str:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(f"http://{daemon.host}/")
        page.get_by_label("Packages, separated").fill("gi")
        page.locator("#found").get_by_role("button", name="git").first.click()
        page.get_by_label("Packages, separated").press_sequentially("rg")
        named = page.locator("#found").get_by_role("button", name="ripgrep")
        expect(named).to_contain_text("(it has the program rg)")
        page.get_by_label("Packages, separated").fill("git jq")
        page.get_by_label("shell: bash").check()
        page.locator("#results").get_by_role("button", name="Copy").first.click()
        text: str = page.evaluate("navigator.clipboard.readText()")
        shown = page.get_by_label("The command that pulls the image", exact=True).locator("code")
        assert text == shown.inner_text()
        return text

    command = in_browser(use)
    assert command == f"docker pull {daemon.host}/shell/git/jq:latest"
    assert docker.ok(*command.split()[1:])


STARTED = {
    "hello": {"": "Hello"},
    "shell/jq": {"": "exit"},
    "git/jq": {" git": "usage: git", " jq": "jq [options]"},
    "library/hello": {"": "Hello"},
    "tzdata": {},
}
"""Image → what its commands end with, and words that they print."""


def test_commands_that_run(daemon: Daemon, docker: Docker) -> None:
    """The page of an image offers commands that run it, by its own command or by the programs that
    it has; they work as they are copied."""
    for name in STARTED:
        assert daemon.pull(name).status == 200

    def use(browser: Browser) -> dict[str, list[str]]:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        copied: dict[str, list[str]] = {}
        for name in STARTED:
            page.goto(f"http://{daemon.host}/images/{name}")
            copied[name] = []
            for block in page.get_by_label("Run it", exact=True).all():
                block.get_by_role("button").click()
                copied[name].append(page.evaluate("navigator.clipboard.readText()"))
        return copied

    for name, commands in in_browser(use).items():
        image = f"{daemon.host}/{name.removeprefix('library/')}:latest"
        assert commands == [f"docker run --rm -ti {image}{way}" for way in STARTED[name]]
        for command, words in zip(commands, STARTED[name].values(), strict=True):
            ran = docker.on_terminal(*shlex.split(command)[1:], entered="exit\n")
            assert words in ran.output, ran.output
            assert ran.code not in (125, 126, 127)


def test_a_build_is_watched(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """A build's page shows its log and its progress before it ends, by itself, and what came of it
    when it has; whoever opens it late sees the same."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages)
    pull = threading.Thread(target=daemon.pull, args=("slow",))
    pull.start()

    def use(browser: Browser) -> None:
        page, late = browser.new_page(), browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(f"http://{daemon.host}/")
        page.wait_for_function("fetch('/builds').then(a => a.json()).then(all => all.length > 0)")
        address = f"http://{daemon.host}/builds/{builds_of(daemon)['slow']}"
        page.goto(address)
        expect(page.get_by_role("log")).to_contain_text("> step 2")
        expect(page.get_by_role("status")).to_contain_text("It is running")
        expect(page.locator("#built-text")).to_have_text("0 of 1")
        packages.go_on()
        expect(page.get_by_role("status")).to_contain_text("It is done")
        expect(page.locator("#built-text")).to_have_text("1 of 1")
        late.goto(address)
        for each in (page, late):
            expect(each.get_by_role("log")).to_contain_text("> last step")
            each.reload()
            expect(each.get_by_role("log")).to_contain_text("> last step")
        late.get_by_label("Find").fill("step 3")
        expect(late.locator("#log span:visible")).to_have_count(1)
        late.get_by_role("status").get_by_role("link").click()
        expect(late.get_by_role("heading", level=1)).to_have_text("slow:latest")
        assert errors == []

    try:
        in_browser(use)
    finally:
        pull.join()


def test_hostile_text(start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path) -> None:
    """What a package prints is text on the page of its failure, also in a page that is live; what
    would be a script in spite of that, the page's policy stops."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "default.nix").write_text(EVIL_SET.format(set=package_set.folder))
    daemon = start_daemon(NIXERY_PKGS_PATH=str(folder))
    assert daemon.pull("evil").status == 400

    def use(browser: Browser) -> None:
        page = browser.new_page()
        page.goto(f"http://{daemon.host}/")
        page.get_by_label("Packages, separated").fill("evil")
        found = page.locator("#found").get_by_role("button", name="evil")
        expect(found).to_contain_text("<img src=x onerror=")
        expect(found).to_contain_text("<script>document.title = 3")
        assert page.title() == "Nixery: container images made on demand"
        page.goto(f"http://{daemon.host}/builds/{builds_of(daemon)['evil']}")
        expect(page.get_by_role("heading", name="Why it failed")).to_be_visible()
        expect(page.locator(".failure")).to_contain_text("<script>document.title = 1</script>")
        expect(page.get_by_role("log")).to_contain_text("<img src=x onerror=")
        assert page.title() == "Build of evil:latest"
        page.evaluate(
            """() => {
                window.refused = [];
                const note = event => window.refused.push(event.violatedDirective);
                document.addEventListener("securitypolicyviolation", note);
            }"""
        )
        page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=document.title=1>')"
        )
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "document.title = 2";
                document.body.append(script);
            }"""
        )
        page.wait_for_function("window.refused.length == 2")
        assert page.title() == "Build of evil:latest"

    in_browser(use)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everybody_can_use_them(daemon: Daemon, size: Any, scheme: Any) -> None:
    """axe-core finds nothing wrong with any page, wide or narrow, light or dark; none is wider
    than its window."""
    assert daemon.pull("shell/git").status == 200
    assert daemon.pull("broken").status == 400
    builds = builds_of(daemon)
    paths = [
        *("/", "/images/shell/git", f"/builds/{builds['broken']}", "/builds/none"),
        f"/builds/{builds['shell/git']}",
    ]

    def use(browser: Browser) -> dict[str, list[str]]:
        page = browser.new_page(viewport=size, color_scheme=scheme)
        found = {}
        for path in paths:
            page.goto(f"http://{daemon.host}{path}")
            page.wait_for_load_state("networkidle")
            found[path] = violations(page)
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found[path].append("it is wider than the window")
        return found

    assert in_browser(use) == {path: [] for path in paths}
