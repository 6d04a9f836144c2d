"""``nixery search``."""

import json
from typing import Any

import pytest

from tests.cli.fake_api import FakeApi, Run

ASKED = "GET /packages?q=json%20tool&n=20"


def found(*packages: dict[str, Any], ready: bool = True) -> dict[str, Any]:
    return {"ready": ready, "source": "nixpkgs", "revision": "1", "packages": list(packages)}


JQ = {"name": "jq", "attribute": "jq", "version": "1.6", "description": "JSON \x1b[2Jprocessor"}


def test_a_table(run: Run, api: FakeApi) -> None:
    """Packages are listed, best first; their texts move no cursor."""
    api.answers[ASKED] = 200, found(JQ)
    ran = run("search", "json", "tool")
    assert ran.code == 0
    assert ran.out.splitlines()[1] == "jq    1.6      JSON processor"
    assert json.loads(run("search", "json", "tool", "--json").out)["packages"] == [JQ]


def test_nothing(run: Run, api: FakeApi) -> None:
    """No result is its own exit code."""
    api.answers[ASKED] = 200, found()
    ran = run("search", "json", "tool")
    assert ran.code == 3
    assert "no package of nixpkgs matches 'json tool'" in ran.err


def test_an_index_in_the_making(run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that is being made is waited for."""
    monkeypatch.setattr("nixery.cli.search.time.sleep", lambda seconds: None)
    api.answers[ASKED] = [(202, found(ready=False)), (200, found(JQ))]
    assert run("search", "json", "tool").code == 0
