"""``nixery pull-ready``."""

import json
from typing import Any

import pytest

from tests.cli.fake_api import FakeApi, Run, image, refusal

ASK = "POST /api/images"
ID = "0123456789abcdef"
EVENTS: list[dict[str, Any]] = [
    {"type": "queued", "running": 1, "waiting": 1},
    {"type": "evaluating"},
    {"type": "fetches-planned", "paths": 2, "download": 10, "unpacked": 20},
    {"type": "fetch-progress", "done": 5_000_000, "expected": 10_000_000},
    {"type": "builds-planned", "derivations": 2},
    {"type": "build-started", "derivation": "git-2.39.5"},
    {"type": "log-line", "derivation": "git-2.39.5", "line": "x"},
    {"type": "build-stopped", "derivation": "git-2.39.5"},
    {"type": "grouped", "layers": 3, "known": 1},
    {"type": "stored", "digest": "sha256:aa"},
]


def stream(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps({"id": 1, "time": 1.0, **e}).encode() + b"\n" for e in events)


def test_a_known_image(run: Run, api: FakeApi) -> None:
    """An image that is made already is ready at once."""
    known = image("git")
    api.answers[ASK] = 200, known
    ran = run("pull-ready", "git")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"git:latest: ready, {known['digest']}"
    assert api.asked == [(ASK, {"name": "git", "tag": "latest"})]


def test_a_build(run: Run, api: FakeApi) -> None:
    """Where there is no terminal, each phase of a build is a line."""
    api.answers[ASK] = 202, {"name": "git", "tag": "latest", "build": ID}
    api.answers[f"GET /builds/{ID}/events"] = 200, stream(EVENTS)
    ended = {"state": "done", "digest": "sha256:dd", "error": None}
    api.answers[f"GET /builds/{ID}"] = 200, ended
    ran = run("pull-ready", "git")
    assert ran.code == 0
    assert [line.removeprefix("git:latest: ") for line in ran.out.splitlines()] == [
        "asking",
        "waiting",
        "evaluating",
        "downloading",
        "building, 0 of 2: git-2.39.5",
        "packing, 1 of 3 layers",
        "ready, sha256:dd",
    ]


def test_failures(run: Run, api: FakeApi) -> None:
    """An image that can't be made is told with the reason; the others are made all the same."""
    api.answers[ASK] = 202, {"name": "git", "tag": "latest", "build": ID}
    api.answers[f"GET /builds/{ID}/events"] = 200, stream(EVENTS[:2])
    ended = {"state": "failed", "digest": None, "error": "there is no package 'gti'"}
    api.answers[f"GET /builds/{ID}"] = 200, ended
    ran = run("pull-ready", "gti")
    assert (ran.code, ran.err) == (1, "nixery: gti:latest: there is no package 'gti'\n")
    api.answers[ASK] = 403, refusal("you may not")
    ran = run("pull-ready", "git", "jq", "--json")
    assert ran.code == 4
    assert [each["error"] for each in json.loads(ran.out)["images"]] == ["you may not"] * 2


def test_builds_that_are_not_shown(run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the registry shows no builds, it is asked again until the image is made."""
    monkeypatch.setattr("nixery.cli.pull_ready._AGAIN", 0.0)
    api.answers[ASK] = [(202, {"build": ID}), (202, {"build": ID}), (200, image("git"))]
    ran = run("pull-ready", "git")
    assert ran.code == 0
    assert ran.out.splitlines()[-1].startswith("git:latest: ready, sha256:")


def test_a_digest(run: Run, api: FakeApi) -> None:
    """What is named by a digest can't be made."""
    ran = run("pull-ready", f"git@sha256:{'0' * 64}")
    assert ran.code == 2
    assert "by its tag here, not by its digest" in ran.err
