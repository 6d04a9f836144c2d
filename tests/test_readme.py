"""What the README says can be typed, found and set."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_readme import NOT_PASTED
from tests.readme import TOP, commands

DOCS = sorted(TOP.glob("docs/*.md"))
PAGES = [*sorted(TOP.glob("*.md")), TOP / "changes" / "README.md", *DOCS]


def test_commands_parse() -> None:
    """Every command is one to a shell."""
    assert len(commands()) > 20
    for command in commands():
        checked = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, text=True)
        assert checked.stderr == "", command


def test_targets_exist() -> None:
    """``make`` knows what it is told to make, and a target that is shown is explained there."""
    makefile = (TOP / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    words = [shlex.split(command.text) for command in commands()]
    named = {line[line.index("make") + 1] for line in words if "make" in line}
    text = (TOP / "README.md").read_text("utf-8")
    text += (TOP / "CONTRIBUTING.md").read_text("utf-8")
    named |= set(re.findall(r"(?:`|\$ )(?:[A-Z]+=\S+ )?make ([a-z0-9-]+)", text))
    assert {"run", "test", "clean", "test-oldest"} <= named
    assert named <= targets


def test_files_exist() -> None:
    """Files of the checkout that commands name are there."""
    named = {
        word
        for command in commands()
        for word in shlex.split(command.text, comments=True)
        if word.startswith(("systemd/", "scripts/", "nix/", "deploy/"))
    }
    assert len(named) >= 3
    assert {path for path in named if not (TOP / path).exists()} == set()


def test_every_command_is_pasted() -> None:
    """Each command is run by ``make readme-test``, or it is known why not."""
    assert NOT_PASTED.keys() <= {command.text for command in commands()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    """What a page links to in the checkout is there, with the heading that it names."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}
            assert heading in anchors, link


def test_every_page_is_found() -> None:
    """The README leads to every page of the documentation."""
    text = (TOP / "README.md").read_text("utf-8")
    pages = [*DOCS, TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md"]
    assert [page for page in pages if f"({page.relative_to(TOP)})" not in text] == []
