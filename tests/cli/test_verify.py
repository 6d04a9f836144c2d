"""``nixery verify``."""

import json
from typing import Any

import pytest

from tests.cli.fake_api import Answer, FakeApi, Run

BEGIN, LOOK = (
    "POST /api/verifications",
    "GET /api/verifications?name=git&tag=latest&against=&deep=0",
)
DRV = "/nix/store/00000000000000000000000000000000-git-2.39.5.drv"


def state(name: str, step: str = "", **more: Any) -> Answer:
    known = {"state": name, "step": step, "done": 0, "total": 0, "error": None, "result": None}
    return 202, known | more


def result(outcome: str, detail: str = "") -> dict[str, Any]:
    return {
        **{"name": "git", "tag": "latest", "digest": "sha256:aa", "outcome": outcome, "remark": ""},
        "derivations": [{"derivation": DRV, "outcome": outcome, "detail": detail}],
        "layers": [
            {"digest": "sha256:bb", "outcome": "same", "paths": []},
            {"digest": "sha256:cc", "outcome": outcome, "paths": [DRV.removesuffix(".drv")]},
        ],
    }


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nixery.cli.verify._PERIOD", 0.0)


@pytest.mark.parametrize(("outcome", "code"), [("same", 0), ("differs", 5), ("failed", 1)])
def test_outcomes(run: Run, api: FakeApi, outcome: str, code: int) -> None:
    """Steps are told while it runs, then what came of it; the exit code says which."""
    api.answers[BEGIN] = state("running")
    api.answers[LOOK] = [
        state("running", "building git-2.39.5 again", total=2, done=1),
        state("done", result=result(outcome, "bin/git differs")),
    ]
    ran = run("verify", "git")
    assert ran.code == code
    assert ran.err == "building git-2.39.5 again (1 of 2)\n"
    assert "git-2.39.5.drv  bin/git differs" in ran.out
    assert ("1 of 2 layers are the same" in ran.out) == (outcome != "same")
    assert api.asked[0][1] == {"name": "git", "tag": "latest", "against": "", "deep": False}


def test_json(run: Run, api: FakeApi) -> None:
    """Programs get the result alone."""
    api.answers[BEGIN] = state("done", result=result("differs"))
    ran = run("verify", "git", "--json")
    assert (ran.code, json.loads(ran.out)) == (5, result("differs"))


@pytest.mark.parametrize("command", ["verify", "log", "pull-ready"])
def test_by_a_digest(run: Run, api: FakeApi, command: str) -> None:
    """What is done by a tag is not done to the tag's image if another one may be meant."""
    ran = run(command, f"git@sha256:{'0' * 64}")
    assert ran.code == 2
    assert "an image is named by its tag here, not by its digest" in ran.err
    assert api.asked == []


def test_a_failure(run: Run, api: FakeApi) -> None:
    """What kept it from being tried is told."""
    api.answers[BEGIN] = state("failed", error="this registry has no manifest git:latest")
    ran = run("verify", "git")
    assert (ran.code, ran.err) == (1, "nixery: this registry has no manifest git:latest\n")
