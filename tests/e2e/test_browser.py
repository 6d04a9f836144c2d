"""The pages, as a browser shows them."""

import re
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from nixery.model.typed_name import META_PACKAGES
from tests.e2e.browser import WIDTHS, in_browser, violations
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
    """By keyboard alone, the start page suggests packages of the set, says what is wrong with a
    name, and gives a command that pulls."""

    def use(browser: Browser) -> str:
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(f"http://{daemon.host}/")
        field = page.get_by_role("combobox")
        options = page.get_by_role("option")
        while page.evaluate("document.activeElement.id") != "typed":
            page.keyboard.press("Tab")
        expect(field).to_have_attribute("aria-expanded", "true")
        expect(options).to_have_text([re.compile(f"^{word}") for word in META_PACKAGES])
        page.keyboard.press("ArrowDown")
        expect(options.first).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        expect(field).to_have_value("shell/")
        page.keyboard.type("rg")
        expect(options.first).to_contain_text("(it has the program rg)")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Escape")
        expect(field).to_have_attribute("aria-expanded", "false")
        expect(field).to_have_value("shell/rg")
        page.keyboard.press("ArrowDown")
        expect(field).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("ArrowDown")
        assert field.get_attribute("aria-activedescendant") == "option-0"
        page.keyboard.press("Enter")
        expect(field).to_have_value("shell/ripgrep/")
        page.keyboard.type("..")
        expect(page.locator("#made")).to_contain_text("is not a valid package name")
        page.keyboard.press("Backspace")
        page.keyboard.press("Backspace")
        page.keyboard.type("jq")
        shown = page.get_by_label("Pull it (docker)", exact=True)
        expect(shown.locator("code")).to_have_text(f"docker pull {daemon.host}/shell/ripgrep/jq")
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Copy: Pull it (docker)")).to_have_text("Copied")
        text: str = page.evaluate("navigator.clipboard.readText()")
        return text

    command = in_browser(use)
    assert command == f"docker pull {daemon.host}/shell/ripgrep/jq"
    assert docker.ok(*command.split()[1:])


def test_a_list_that_was_dismissed(daemon: Daemon) -> None:
    """While the package index is being built, the start page asks again and again; a list of
    suggestions that was dismissed stays closed until something is typed."""
    option = '<li id="option-0" role="option" aria-selected="false" data-typed="git/">git</li>'
    parts = f'<ul id="suggestions" role="listbox" hidden data-again="">{option}</ul>'

    def use(browser: Browser) -> None:
        page = browser.new_page()
        page.route("**/name?*", lambda route: route.fulfill(content_type="text/html", body=parts))
        page.goto(f"http://{daemon.host}/")
        field = page.get_by_role("combobox")
        field.press("g")
        expect(field).to_have_attribute("aria-expanded", "true")
        expect(page.get_by_role("option")).to_have_text(["git"])
        field.press("Escape")
        for _ in range(2):  # the second has been asked for when the first has been shown
            with page.expect_response("**/name?*"):
                pass
        expect(field).to_have_attribute("aria-expanded", "false")
        field.press("i")
        expect(field).to_have_attribute("aria-expanded", "true")

    in_browser(use)


def test_copying_over_plain_http(start_daemon: StartDaemon, package_set: PackageSet) -> None:
    """Where a page has no clipboard, as over plain HTTP from another machine, commands are copied
    all the same; the tab that was chosen is open on the next page too."""
    # Of this machine's addresses, those that the kernel calls loopback are not all the browser's.
    daemon = start_daemon()
    host = f"registry.test:{daemon.port}"

    def use(browser: Browser) -> tuple[bool, str, str]:
        page = browser.new_page()
        page.goto(f"http://{host}/?q=jq")
        page.get_by_text("podman", exact=True).click()
        page.get_by_role("button", name="Copy: Pull it (podman)").click()
        expect(page.locator("#said")).to_have_text("Copied")
        secure: bool = page.evaluate("isSecureContext")
        page.get_by_role("combobox").fill("")
        page.keyboard.press("Control+V")
        pasted = page.get_by_role("combobox").input_value()
        page.reload()
        return secure, pasted, page.locator(".tabs > input:checked").first.input_value()

    secure, pasted, tab = in_browser(use, "--host-resolver-rules=MAP registry.test 127.0.0.1")
    assert not secure
    assert pasted == f"podman pull --tls-verify=false {host}/jq"
    assert tab == "podman"


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
            for block in page.get_by_label("Run it (docker)", exact=True).all():
                block.get_by_role("button").click()
                copied[name].append(page.evaluate("navigator.clipboard.readText()"))
        return copied

    for name, commands in in_browser(use).items():
        image = f"{daemon.host}/{name.removeprefix('library/')}"
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
        expect(page.get_by_role("status")).to_contain_text("Running")
        expect(page.locator("#built-text")).to_have_text("0 of 1")
        packages.go_on()
        expect(page.get_by_role("status")).to_contain_text("Done")
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
        page.get_by_role("combobox").fill("evil")
        found = page.get_by_role("option", name="evil")
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
def test_everybody_can_use_them(daemon: Daemon, scheme: Any) -> None:
    """axe-core finds nothing wrong with any page, at three widths, light or dark; none is wider
    than its window, and none says more than that nothing is there where it is empty."""
    assert daemon.pull("shell/git").status == 200
    assert daemon.pull("broken").status == 400
    builds = builds_of(daemon)
    paths = [
        *("/", "/?q=shell/git", "/?q=x..", "/builds", "/builds?state=failed", "/builds/none"),
        *("/docs", "/docs/clients", "/api", "/nothing"),
        *("/images/shell/git", f"/builds/{builds['broken']}", f"/builds/{builds['shell/git']}"),
    ]

    def use(browser: Browser) -> dict[str, list[str]]:
        page = browser.new_page(color_scheme=scheme)
        found: dict[str, list[str]] = {}
        for path in paths:
            page.goto(f"http://{daemon.host}{path}")
            page.wait_for_load_state("networkidle")
            found[path] = []
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                found[path] += [f"at {width}: {each}" for each in violations(page)]
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    found[path].append(f"at {width}: it is wider than the window")
        return found

    assert in_browser(use) == {path: [] for path in paths}
