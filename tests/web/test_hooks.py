"""What the source's forge sends."""

import hmac
from hashlib import sha1

import pytest
import pytest_twisted

from nixery.web.hooks import HooksApi
from tests.web.server import Collector, serving

SECRET = "a-secret-of-the-forge"
BODY = b'{"ref": "refs/heads/main"}' * 4000  # larger than what any other path takes


def signature(body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


SIGNED = f"sha256={signature()}"
OF_SHA1 = f"sha1={hmac.new(SECRET.encode(), BODY, sha1).hexdigest()}"
GOOD = {
    "github": {"X-Hub-Signature-256": SIGNED, "X-Hub-Signature": OF_SHA1, "X-GitHub-Event": "push"},
    "gitea": {"X-Gitea-Signature": signature(), "X-Gitea-Event": "push"},
    "forgejo": {"X-Forgejo-Signature": signature(), "X-Hub-Signature-256": SIGNED},
    "gitlab": {"X-Gitlab-Token": SECRET, "X-Gitlab-Event": "Push Hook"},
    "bitbucket": {"X-Hub-Signature": SIGNED, "X-Event-Key": "repo:push"},
    "plain": {"Authorization": f"Bearer {SECRET}"},
}
WRONG = [
    {},
    {"X-Hub-Signature": OF_SHA1},
    {"X-Hub-Signature-256": f"sha256={signature(BODY + b'.')}"},
    {"X-Hub-Signature-256": f"sha256={signature(secret='another')}"},
    {"X-Hub-Signature-256": "sha256="},
    {"X-Hub-Signature-256": SIGNED[:-1]},
    {"X-Gitea-Signature": "0" * 64, "X-Hub-Signature-256": SIGNED},
    {"X-Gitlab-Token": "another"},
    {"X-Gitlab-Token": SECRET, "Authorization": "Bearer another"},
    {"Authorization": f"Basic {SECRET}"},
]


@pytest.mark.parametrize("forge", GOOD)
@pytest_twisted.ensureDeferred
async def test_pushes(forge: str) -> None:
    """A push that any of the forges has signed in its way is taken note of."""
    pushes: list[str] = []
    hooks = HooksApi(lambda: SECRET, lambda: pushes.append(forge))
    async with serving(apis=[hooks]) as server:
        answer = await server.post("/hooks/source", BODY, GOOD[forge])
    assert (answer.status, pushes) == (202, [forge])


@pytest.mark.parametrize("headers", WRONG)
@pytest_twisted.ensureDeferred
async def test_wrong_signatures(headers: dict[str, str]) -> None:
    """What is not signed, or not rightly in one of the ways, changes nothing."""
    pushes: list[str] = []
    hooks = HooksApi(lambda: SECRET, lambda: pushes.append("push"))
    async with serving(apis=[hooks]) as server:
        answer = await server.post("/hooks/source", BODY, headers)
    assert (answer.status, answer.error()["code"], pushes) == (401, "UNAUTHORIZED", [])
    assert SECRET.encode() not in answer.body
    assert signature().encode() not in answer.body


@pytest_twisted.ensureDeferred
async def test_what_is_no_push() -> None:
    """A forge that only tries the address gets a good answer, and nothing happens; without a
    secret, or by another method, there is nothing."""
    pushes: list[str] = []
    hooks = HooksApi(lambda: SECRET, lambda: pushes.append("push"))
    empty = {"X-Hub-Signature-256": signature(b""), "X-GitHub-Event": "ping"}
    async with serving(apis=[hooks]) as server:
        assert (await server.post("/hooks/source", b"", empty)).status == 202
        assert (await server.ask("/hooks/source")).status == 405
    hooks = HooksApi(None, lambda: pushes.append("push"))
    async with serving(apis=[hooks]) as server:
        assert (await server.post("/hooks/source", b"", empty)).status == 404
    assert pushes == []


@pytest_twisted.ensureDeferred
async def test_bodies_are_bounded() -> None:
    """A body that is larger than any forge sends is refused as soon as that is said."""
    hooks = HooksApi(lambda: SECRET, lambda: None)
    async with serving(apis=[hooks]) as server:
        for size in (b"26214401", b"999999999999"):
            head = b"POST /hooks/source HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % size
            client = await server.connect(Collector())
            client.transport.write(head)  # type: ignore[union-attr]
            await server.until(lambda: b"\r\n\r\n" in client.received)  # noqa: B023
            assert client.received.startswith(b"HTTP/1.1 413 ")
            client.transport.abortConnection()  # type: ignore[union-attr]
