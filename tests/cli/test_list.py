"""``nixery list``."""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.fake_api import TOKEN, FakeApi, Run, image

FIRST = "GET /api/images?n=10000&after="


def test_a_table(run: Run, api: FakeApi) -> None:
    """Images are listed as the daemon has them, which is asked with its own token."""
    api.answers[FIRST] = 200, {"images": [image("shell/git"), image("jq", "1.6", pulls=0)]}
    ran = run("list")
    assert ran.code == 0
    titles, git, jq = ran.out.splitlines()
    assert titles.split() == ["NAME", "TAG", "SIZE", "PLATFORM", "PULLS", "USED", "DIGEST"]
    assert git.split()[:6] == ["shell/git", "latest", "34", "MB", "amd64", "3"]
    assert jq.startswith("jq         1.6")
    assert api.tokens == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color(run: Run, api: FakeApi, no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal, titles stand out, unless colours are not wanted."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    api.answers[FIRST] = 200, {"images": []}
    assert ("\x1b[" in run("list").out) == (no_color == "")


def test_patterns(run: Run, api: FakeApi) -> None:
    """Patterns select by name."""
    api.answers[FIRST] = 200, {"images": [image("shell/git"), image("jq"), image("git")]}
    found = json.loads(run("list", "--json", "shell/*", "jq").out)["images"]
    assert [each["name"] for each in found] == ["shell/git", "jq"]


def test_pages(run: Run, api: FakeApi) -> None:
    """More images than the daemon gives at once are asked for in pages."""
    full = [image("git", str(number)) for number in range(10_000)]
    api.answers[FIRST] = 200, {"images": full}
    last = full[-1]["digest"].replace(":", "%3A")
    api.answers[f"GET /api/images?n=10000&after={last}"] = 200, {"images": [image("jq")]}
    found = json.loads(run("list", "--json").out)["images"]
    assert len(found) == 10_001


def test_without_a_daemon(run: Run, state: Path) -> None:
    """Without a daemon, the list is the one that it wrote down, the latest used first."""
    images = [image("old", blobs=""), image("new", made=5.0, pulled=0.0, blobs="")]
    lines = "".join(f"{json.dumps(each)}\n" for each in images)
    (state / "images.jsonl").write_text(lines)
    found = json.loads(run("list", "--json").out)["images"]
    assert [each["name"] for each in found] == ["new", "old"]
    (state / "images.jsonl").write_text("{")
    ran = run("list")
    assert ran.code == 1
    assert "images.jsonl can't be read: it is damaged" in ran.err


def test_ten_thousand(run: Run, state: Path) -> None:
    """Ten thousand images are a list like any other."""
    line = json.dumps(image("shell/git/jq", blobs="01234567" * 20))
    (state / "images.jsonl").write_text(f"{line}\n" * 10_000)
    assert len(run("list").out.splitlines()) == 10_001
