"""``nixery show``."""

import json
from pathlib import Path
from typing import Any

from tests.cli.fake_api import FakeApi, Run, image

STORE = "/nix/store/00000000000000000000000000000000"
INSIDE: dict[str, Any] = {
    "packages": [
        {
            "package": "git",
            "version": "2.39.5",
            "licences": ["GPL-2.0-only"],
            "paths": [f"{STORE}-git-2.39.5"],
        }
    ],
    "paths": [
        {"path": f"{STORE}-git-2.39.5", "size": 2},
        {"path": f"{STORE}-glibc-2.36", "size": 1},
    ],
    "layers": [
        {"digest": "sha256:" + "a" * 64, "size": 1_000_000, "paths": [f"{STORE}-glibc-2.36"]},
        {"digest": "sha256:" + "b" * 64, "size": 2_000, "paths": []},
    ],
}
VERIFIED = {"outcome": "same", "against": "", "ended": 1.0}


def test_an_image(run: Run, api: FakeApi) -> None:
    """An image is shown with its packages, its layers, and whether it was verified."""
    known = image("git", contents=INSIDE, verified=VERIFIED)
    api.answers["GET /api/images/git:latest"] = 200, known
    ran = run("show", "git")
    assert ran.code == 0
    for words in ("folder pkgs", "34 MB", "2.39.5", "GPL-2.0-only", "glibc-2.36", "same, 19"):
        assert words in ran.out
    assert "bbbbbbbbbbbb  2.0 kB  root file system" in ran.out
    assert json.loads(run("show", "git", "--json").out) == known


def test_by_digest(run: Run, api: FakeApi) -> None:
    """A digest, and a name as docker takes it, name an image too."""
    digest = "sha256:" + "0" * 64
    api.answers[f"GET /api/images/git@{digest}"] = 200, image("git")
    assert run("show", f"localhost:8080/git@{digest}").code == 0


def test_without_a_daemon(run: Run, state: Path) -> None:
    """Without a daemon, what it wrote down is shown; what it did not is not known."""
    known = image("git", "1.0", blobs="")
    (state / "images.jsonl").write_text(f"{json.dumps(known)}\n")
    assert json.loads(run("show", "git:1.0", "--json").out) == known
    assert run("show", f"git@{known['digest']}").code == 0
    ran = run("show", "git")
    assert ran.code == 3
    assert "nixery pull-ready git:latest" in ran.err
