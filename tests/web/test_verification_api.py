"""Verification, for operators."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.access.api_token import OperatorAccess
from nixery.web.verification_api import VerificationApi
from tests.builds.test_reproducing import GIT, Bench, make_bench
from tests.web.server import Answer, Server, serving

reactor: Any = _reactor
OWN = {"Authorization": "Bearer the-token-of-the-operator"}
PATH = "/api/verifications"


@asynccontextmanager
async def verifying(folder: Path) -> AsyncIterator[tuple[Server, Bench]]:
    bench = make_bench(str(folder))
    operators = OperatorAccess(reactor, str(folder), lambda: OWN["Authorization"][7:])
    api = VerificationApi(operators, bench.reproducer)
    async with serving(apis=[api]) as server:
        yield server, bench


async def begin(server: Server, **body: object) -> Answer:
    return await server.post(PATH, json.dumps(body).encode(), OWN)


@pytest_twisted.ensureDeferred
async def test_a_verification(tmp_path: Path) -> None:
    """A verification is begun, tells how far it is, and at its end what came of it."""
    async with verifying(tmp_path) as (server, bench):
        await bench.parts.builder.manifest(GIT)
        bench.rebuilder.gate = gate = Deferred[None]()
        begun = await begin(server, name="git")
        assert (begun.status, json.loads(begun.body)["state"]) == (202, "running")
        await server.until(lambda: bool(bench.rebuilder.built))
        looked = json.loads((await server.ask(f"{PATH}?name=git", headers=OWN)).body)
        assert (looked["step"], looked["total"]) == ("building git-1.0 again", 1)
        gate.callback(None)
        while looked["state"] == "running":
            looked = json.loads((await server.ask(f"{PATH}?name=git&tag=latest", headers=OWN)).body)
        assert (looked["state"], looked["result"]["outcome"]) == ("done", "same")
        deep = await server.ask(f"{PATH}?name=git&deep=1", headers=OWN)
        assert deep.status == 404


@pytest_twisted.ensureDeferred
async def test_an_image_that_was_not_made(tmp_path: Path) -> None:
    """What can't be verified is told as the end of it."""
    async with verifying(tmp_path) as (server, _):
        await begin(server, name="git")
        looked: dict[str, Any] = {"state": "running"}
        while looked["state"] == "running":
            looked = json.loads((await server.ask(f"{PATH}?name=git", headers=OWN)).body)
        assert looked["state"] == "failed"
        assert "git:latest" in looked["error"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"name": 1}',
        b'{"name": "git", "deep": "yes"}',
        b'{"name": "git", "against": "file:///etc/passwd"}',
        b'{"name": "git", "against": "http://ada:secret@x/"}',
        b'{"name": "git", "against": "http://x/?y"}',
        b'{"name": "git", "against": "http://[x"}',
        b'{"name": "GIT"}',
    ],
)
async def test_bad_requests(tmp_path: Path, body: bytes) -> None:
    """What is no request for a verification is refused, and nothing begins."""
    async with verifying(tmp_path) as (server, bench):
        answer = await server.post(PATH, body, OWN)
        assert answer.status == 400
        assert b"secret" not in answer.body
        assert bench.reproducer._progress == {}


@pytest_twisted.ensureDeferred
async def test_for_operators_alone(tmp_path: Path) -> None:
    """Without the token, nothing is begun or told."""
    async with verifying(tmp_path) as (server, bench):
        for method in ("GET", "POST"):
            answer = await server.ask(PATH, method, {"Authorization": "Bearer another-one"})
            assert answer.status == 401
        assert bench.reproducer._progress == {}
