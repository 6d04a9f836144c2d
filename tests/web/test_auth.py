"""Who may pull what, over HTTP."""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs, formatEvent

from nixery.access.configured import make_access
from nixery.access.passwords import MOST_WAITING
from nixery.access.watched import Watched
from nixery.http.request import Trusted
from nixery.model.access_files import AccessFiles
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.package_errors import NotAPackage, UnknownPackage
from nixery.model.suggestions import Suggestion
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import Auth, TokenServer
from tests.access.signing import AUDIENCE, ISSUER, Signer
from tests.history.histories import begin, open_history
from tests.web.server import MANIFEST, Answer, Server, reactor, serving

pytestmark = pytest.mark.usefixtures("both_ways")

HIDDEN = {
    user: bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    for user, password in {"alice": b"secret", "bob": "pä:ß".encode()}.items()
}
SIGNER = Signer.of("ES256")
REALM = "https://tokens.example/token"
PATHS = (
    "/v2/hello/manifests/latest",
    f"/v2/hello/manifests/{MANIFEST.digest}",
    f"/v2/hello/blobs/{MANIFEST.digest}",
    "/v2/hello/tags/list",
    f"/v2/hello/referrers/{MANIFEST.digest}",
)
Make = Callable[..., Auth]
MADE: list[Watched[Any]] = []
"""The files of what was made last."""


def basic(user: str, password: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


ALICE, BOB = basic("alice", "secret"), basic("bob", "pä:ß")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes what lets clients through: ``make(rules=TOML, jwt=True)``."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    def make(rules: str | None = None, jwt: bool = False, users: bool = True) -> Auth:
        passwords = "".join(f"{user}:{hidden}\n" for user, hidden in HIDDEN.items())
        tokens = f"ci:{sha256(b'static').hexdigest()}\n"
        files = AccessFiles(
            htpasswd=write("htpasswd", passwords) if users else None,
            tokens=write("tokens", tokens) if users else None,
            rules=write("rules", rules) if rules is not None else None,
            jwt_key=SIGNER.write(tmp_path / "key.pem") if jwt else None,
            jwt_audience=AUDIENCE,
            jwt_issuer=ISSUER,
        )
        server = TokenServer(REALM, AUDIENCE) if jwt else None
        access = make_access(reactor, files)
        MADE[:] = access.watched
        return Auth(access.guard, server)

    return make


def is_refused(answer: Answer, status: int = 401) -> bool:
    """Whether an answer is a refusal as registries give it."""
    code = {401: "UNAUTHORIZED", 403: "DENIED"}[status]
    return (answer.status, answer.error()["code"]) == (status, code) and (
        ("www-authenticate" in answer.headers) == (status == 401)
    )


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("path", ["/v2/", "/v2", "/v2/none", "/", "/builds", "/none", *PATHS])
async def test_nothing_without_credentials(make: Make, path: str) -> None:
    """Where there are users, everything asks for credentials, by GET and by HEAD."""
    async with serving(auth=make()) as server:
        answer = await server.ask(path)
        assert is_refused(answer)
        assert answer.headers["www-authenticate"] == 'Basic realm="Nixery", charset="UTF-8"'
        assert (await server.ask(path, "HEAD")).status == 401
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("headers", [ALICE, BOB, bearer("static"), basic("ci", "static")])
async def test_credentials(make: Make, headers: dict[str, str]) -> None:
    """A user's password, and its token, by either scheme, let it in."""
    async with serving(auth=make()) as server:
        assert (await server.ask("/v2/", headers=headers)).status == 200
        assert (await server.ask("/", headers=headers)).status == 200
        for path in PATHS[:2]:
            answer = await server.ask(path, headers=headers)
            assert (answer.status, answer.body) == (200, MANIFEST.content)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "Secret"),
        basic("alice", ""),
        basic("alice", "secret\0"),
        basic("alice", "x" * 1000),
        basic("bob", "secret"),
        basic("nobody", "secret"),
        basic("", "secret"),
        basic("alice", "static"),
        bearer("Static"),
        pytest.param(bearer(HIDDEN["alice"]), id="the hash of a token"),
        bearer(sha256(b"static").hexdigest()),
        {"Authorization": "Basic YWxpY2U="},
        {"Authorization": ALICE["Authorization"].replace("Basic", "Digest")},
    ],
    ids=repr,
)
async def test_wrong_credentials(make: Make, headers: dict[str, str]) -> None:
    """Whatever else is sent is refused, always in the same words."""
    async with serving(auth=make()) as server:
        words = "authentication required; the credentials are invalid or have expired"
        for path in ("/v2/", PATHS[0], "/"):
            answer = await server.ask(path, headers=headers)
            assert is_refused(answer)
            assert answer.error()["message"] == words
        assert server.builder.asked == []


def test_any_header(make: Make) -> None:
    """No header that was made up lets anybody in, or makes anything go wrong."""
    credentials = make(jwt=True)._guard.credentials
    assert credentials is not None
    schemes = st.sampled_from(["Basic ", "Bearer ", "bearer basic.", "Digest ", ""])
    encoded = st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode())
    words = encoded | st.text(max_size=60) | st.from_regex(r"\A[\w-]+\.[\w-]+\.[\w-]*\Z")

    @settings(suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.builds(str.__add__, schemes, words))
    def send(header: str) -> None:
        trying = Deferred.fromCoroutine(credentials.who(header, "192.0.2.1"))
        found: list[object] = []
        trying.addBoth(found.append)
        if found:  # else it is a user and a password that are being looked at
            assert type(getattr(found[0], "value", None)).__name__ == "Unauthorized" or (
                "anonymous" in header
            )

    send()


@pytest_twisted.ensureDeferred
async def test_names_that_a_user_may_not_pull(make: Make) -> None:
    """A user gets nothing by a name that is denied to it, be it a blob, and others do."""
    rules = '[users.alice]\nallow = ["shell"]\n[users.bob]\ndeny-tags = ["latest"]'
    async with serving(auth=make(rules)) as server:
        blob = await _store_image(server)
        for path in (*PATHS, f"/v2/hello/blobs/{blob}", "/v2/shell/hello/manifests/latest"):
            answer = await server.ask(path, headers=ALICE)
            assert is_refused(answer, 403)
            assert "bob" not in answer.body.decode()
        assert server.builder.asked == []
        assert (await server.ask("/v2/shell/manifests/latest", headers=ALICE)).status == 200
        assert (await server.ask(f"/v2/shell/blobs/{blob}", headers=ALICE)).body == b"config"
        assert is_refused(await server.ask(PATHS[0], headers=BOB), 403)
        assert (await server.ask("/v2/hello/manifests/1", headers=BOB)).status == 200
        assert (await server.ask(f"/v2/hello/blobs/{blob}", headers=BOB)).status == 200


async def _store_image(server: Server) -> Digest:
    """Store the blobs of the image that the builder makes, whatever it is asked for.

    :return: one that is no manifest.
    """
    await server.storage.write_blob(MANIFEST.content)
    return await server.storage.write_blob(b"config")


OF_IMAGE = (f"manifests/{MANIFEST.digest}", f"blobs/{MANIFEST.digest}", "blobs/{blob}")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("rest", OF_IMAGE, ids=["manifest", "manifest as blob", "blob"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_digests_of_images_that_a_client_may_not_pull(
    make: Make, rest: str, method: str
) -> None:
    """A digest is not to be had by the name of another image, as if there were none of that kind;
    by a name whose image holds it, it is."""
    auth = make('[anonymous]\nallow = ["hello", "git"]')
    async with serving(auth=auth) as server:
        rest = rest.format(blob=await _store_image(server))
        assert (await server.ask("/v2/secret/manifests/latest", headers=ALICE)).status == 200
        none = rest.partition(":")[0] + ":" + "0" * 64
        for name in ("hello", "git/hello"):
            unknown = await server.ask(f"/v2/{name}/{none}", method)
            refused = await server.ask(f"/v2/{name}/{rest}", method)
            assert (refused.status, refused.reason) == (
                404,
                unknown.reason.replace("0" * 64, rest[-64:]),
            )
            assert (await server.ask(f"/v2/{name}/{rest}", method, ALICE)).status == 404
        assert (await server.ask(f"/v2/secret/{rest}", method, ALICE)).status == 200
        assert (await server.ask(f"/v2/secret/{rest}", method)).status == 401
        assert (await server.ask("/v2/git/hello/manifests/latest")).status == 200
        assert (await server.ask(f"/v2/hello/git/{rest}", method)).status == 200
        assert (await server.ask(f"/v2/hello/{rest}", method)).status == 404


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("rest", OF_IMAGE, ids=["manifest", "manifest as blob", "blob"])
async def test_digests_by_tag(make: Make, rest: str) -> None:
    """A digest that only a tag leads to which a client may not pull is not to be had by it."""
    auth = make('[users.alice]\nallow-tags = ["latest"]')
    async with serving(auth=auth) as server:
        path = "/v2/hello/" + rest.format(blob=await _store_image(server))
        assert (await server.ask("/v2/hello/manifests/private", headers=BOB)).status == 200
        assert (await server.ask(path, headers=BOB)).status == 200
        assert (await server.ask(path, headers=ALICE)).status == 404
        assert (await server.ask(PATHS[0], headers=BOB)).status == 200
        assert (await server.ask(path, headers=ALICE)).status == 200


@pytest_twisted.ensureDeferred
async def test_digests_and_granted_names(make: Make) -> None:
    """A token's grants hold for digests as rules do."""
    async with serving(auth=make(jwt=True)) as server:
        blob = await _store_image(server)
        assert (await server.ask("/v2/secret/manifests/latest", headers=ALICE)).status == 200
        good = bearer(SIGNER.token("hello"))
        for rest in (f"manifests/{MANIFEST.digest}", f"blobs/{blob}"):
            assert (await server.ask(f"/v2/hello/{rest}", headers=good)).status == 404
        assert (await server.ask(PATHS[0], headers=good)).status == 200
        for rest in (f"manifests/{MANIFEST.digest}", f"blobs/{blob}"):
            assert (await server.ask(f"/v2/hello/{rest}", headers=good)).status == 200


@pytest_twisted.ensureDeferred
async def test_digests_and_official_names(make: Make) -> None:
    """Who is granted ``library/NAME`` alone, and gets ``NAME`` for it, gets that by digest too."""
    rules = '[everyone]\nallow = ["hello"]'
    async with serving(auth=make(rules, jwt=True)) as server:
        blob = await _store_image(server)
        good = bearer(SIGNER.token("library/hello"))
        path = "/v2/library/hello"
        for rest in ("manifests/latest", f"manifests/{MANIFEST.digest}", f"blobs/{blob}"):
            assert (await server.ask(f"{path}/{rest}", headers=good)).status == 200
            assert (await server.ask(f"/v2/hello/{rest}", headers=good)).status == 401


@pytest_twisted.ensureDeferred
async def test_digests_after_a_restart(make: Make) -> None:
    """Who may pull an image gets it by its digest after a restart, and from another instance."""
    rules = '[users.alice]\nallow = ["hello"]'
    storage = MemoryStorage()
    async with serving(auth=make(rules), storage=storage) as server:
        blob = await _store_image(server)
        assert (await server.ask(PATHS[0], headers=ALICE)).status == 200
    async with serving(auth=make(rules), storage=storage) as server:
        for path in (PATHS[1], f"/v2/hello/blobs/{blob}"):
            assert (await server.ask(path, headers=ALICE)).status == 200
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("users", [True, False])
async def test_digests_where_everybody_may_pull_everything(make: Make, users: bool) -> None:
    """Without rules, nothing is written or read for that, and digests are served by any name."""
    storage = MemoryStorage()
    async with serving(auth=make(users=users), storage=storage) as server:
        blob = await _store_image(server)
        headers = ALICE if users else {}
        assert (await server.ask(PATHS[0], headers=headers)).status == 200
        assert storage.records == {}
        assert (await server.ask(f"/v2/any/blobs/{blob}", headers=headers)).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["HELLO", "hell%6f", "%68ello", "x/../hello", "arm64/hello", "."])
async def test_ways_around_a_name(make: Make, name: str) -> None:
    """However a name is written, what is denied is not to be had by it."""
    async with serving(auth=make('[everyone]\ndeny = ["hello"]')) as server:
        blob = await server.storage.write_blob(b"a blob")
        for rest in ("manifests/latest", f"blobs/{blob}", f"manifests/{MANIFEST.digest}"):
            answer = await server.ask(f"/v2/{name}/{rest}", headers=ALICE)
            assert answer.status in (400, 403, 404)
        assert server.builder.asked == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("rules", "image"),
    [
        ('allow = ["hello"]', "hello"),
        ('deny = ["library"]', "hello"),
        ('allow = ["*"]', "library/hello"),
        ('allow = ["library"]', None),
        ('deny = ["hello"]', None),
    ],
)
async def test_official_names(make: Make, rules: str, image: str | None) -> None:
    """``library/NAME`` is let through as what of it may be pulled, and never more than that."""
    async with serving(auth=make(f"[users.alice]\n{rules}")) as server:
        blob = await server.storage.write_blob(b"a blob")
        paths = [*PATHS, f"/v2/hello/blobs/{blob}"]
        for path in (each.replace("/hello/", "/library/hello/") for each in paths):
            answer = await server.ask(path, headers=ALICE)
            assert (answer.status == 403) == (image is None)
        assert {each.name for each in server.builder.asked} == ({image} if image else set())


@pytest_twisted.ensureDeferred
async def test_rules_without_users(make: Make) -> None:
    """Where nobody has credentials, rules refuse without a challenge."""
    async with serving(auth=make('[everyone]\ndeny = ["hello"]', users=False)) as server:
        assert (await server.ask("/v2/")).status == 200
        assert is_refused(await server.ask(PATHS[0]), 403)
        assert (await server.ask("/v2/git/manifests/latest", headers=ALICE)).status == 200


@pytest_twisted.ensureDeferred
async def test_anonymous_clients_and_users(make: Make) -> None:
    """Where anonymous clients may pull something, clients get tokens here, with credentials or
    without, and everybody gets what is for them."""
    rules = '[anonymous]\nallow = ["hello"]'
    async with serving(auth=make(rules)) as server:
        here = f"http://127.0.0.1:{server.port}/token"
        asked = await server.ask("/v2/")
        service = f"127.0.0.1:{server.port}"
        assert asked.headers["www-authenticate"] == f'Bearer realm="{here}",service="{service}"'
        assert is_refused(await server.ask("/token", headers=basic("alice", "x")))
        nobody, alice = await _token(server, {}), await _token(server, ALICE)
        assert "secret" not in alice
        for headers in ({}, bearer(nobody), bearer(alice), ALICE):
            assert (await server.ask(PATHS[0], headers=headers)).status == 200
        for headers in (bearer(nobody), bearer(alice), ALICE):
            assert (await server.ask("/v2/", headers=headers)).status == 200
        for headers, status in (({}, 401), (bearer(nobody), 401), (bearer(alice), 200)):
            answer = await server.ask("/v2/shell/git/manifests/latest", headers=headers)
            assert answer.status == status
            if status == 401:
                scope = 'scope="repository:shell/git:pull"'
                assert scope in answer.headers["www-authenticate"]


async def _token(server: Server, headers: dict[str, str]) -> str:
    answer = await server.ask("/token?service=x&scope=repository:hello:pull", headers=headers)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    token: str = json.loads(answer.body)["token"]
    return token


@pytest_twisted.ensureDeferred
async def test_no_tokens_for_nobody(make: Make) -> None:
    """Where anonymous clients may pull nothing, they get no token."""
    for rules in (None, "[anonymous]\nallow = []", "[everyone]"):
        async with serving(auth=make(rules)) as server:
            assert is_refused(await server.ask("/token"))
            assert (await server.ask("/token", headers=ALICE)).status == 200
            assert is_refused(await server.ask(PATHS[0], headers=bearer("anonymous")))
    async with serving(auth=make(users=False)) as server:
        assert (await server.ask("/token", headers=ALICE)).status == 404


@pytest_twisted.ensureDeferred
async def test_token_server(make: Make) -> None:
    """A token server's tokens are good for the names in them, and the challenge names it."""
    async with serving(auth=make('[users.alice]\ndeny = ["git"]', jwt=True)) as server:
        challenge = f'Bearer realm="{REALM}",service="{AUDIENCE}"'
        assert (await server.ask("/v2/")).headers["www-authenticate"] == challenge
        answer = await server.ask(PATHS[0])
        scoped = f'{challenge},scope="repository:hello:pull"'
        assert answer.headers["www-authenticate"] == scoped
        for page in ("/images/hello", "/static/x/hello"):
            assert (await server.ask(page)).headers["www-authenticate"] == challenge
        assert (await server.ask("/v2/", headers=bearer(SIGNER.token()))).status == 200
        good = bearer(SIGNER.token("hello", "git"))
        assert (await server.ask(PATHS[0], headers=good)).status == 200
        assert is_refused(await server.ask("/v2/git/manifests/latest", headers=good), 403)
        other = await server.ask("/v2/htop/manifests/latest", headers=good)
        assert is_refused(other)
        assert 'error="insufficient_scope"' in other.headers["www-authenticate"]
        for bad in (SIGNER.token("hello", exp=1), SIGNER.token("hello", aud="x")):
            assert is_refused(await server.ask(PATHS[0], headers=bearer(bad)))
        assert (await server.ask(PATHS[0], headers=basic("bob", "pä:ß"))).status == 200
        assert (await server.ask("/token", headers=ALICE)).status == 404


@pytest_twisted.ensureDeferred
async def test_tokens_without_grants(make: Make) -> None:
    """A token server's token for nothing, as clients without credentials get one, takes nothing
    from its bearer: what is for anybody is for it."""
    async with serving(auth=make('[anonymous]\nallow = ["hello"]', jwt=True)) as server:
        for token in (SIGNER.token(sub=""), SIGNER.token()):
            for path, status in (("hello", 200), ("git", 401), ("hello/git", 401)):
                path = f"/v2/{path}/manifests/latest"
                assert (await server.ask(path, headers=bearer(token))).status == status


@pytest_twisted.ensureDeferred
async def test_changed_passwords(make: Make, tmp_path: Path) -> None:
    """A password that was changed, or taken away, is no good any more, though it was verified."""
    async with serving(auth=make()) as server:
        assert (await server.ask("/v2/", headers=ALICE)).status == 200
        assert (await server.ask("/v2/", headers=BOB)).status == 200
        (tmp_path / "htpasswd").write_text(f"alice:{HIDDEN['bob']}\n")
        for watched in MADE:
            watched.look(force=True, changing=server.changing())
        assert is_refused(await server.ask("/v2/", headers=ALICE))
        assert is_refused(await server.ask("/v2/", headers=BOB))
        assert (await server.ask("/v2/", headers=basic("alice", "pä:ß"))).status == 200


@pytest_twisted.ensureDeferred
async def test_guessing(make: Make) -> None:
    """Of a client that tries more passwords than are checked, some are refused unseen; what is
    verified already is not among them."""
    async with serving(auth=make()) as server:
        assert (await server.ask("/v2/", headers=ALICE)).status == 200
        guesses = [
            Deferred.fromCoroutine(server.ask("/v2/", headers=basic("bob", str(number))))
            for number in range(MOST_WAITING * 3)
        ]
        known = await server.ask("/v2/", headers=ALICE)
        assert known.status == 200
        assert {answer.status for answer in await gatherResults(guesses)} <= {401, 429}
        assert (await server.ask("/v2/", headers=BOB)).status == 200


@pytest_twisted.ensureDeferred
async def test_guessing_is_slowed_down(make: Make) -> None:
    """A client that has guessed too often is told when to come again, by the message and the
    header, and nothing of users."""
    async with serving(auth=make()) as server:
        answer = await server.ask("/v2/", headers=basic("alice", "0"))
        for number in range(1, 50):
            if answer.status == 429:
                break
            assert is_refused(answer)
            answer = await server.ask("/v2/", headers=basic("alice", str(number)))
        seconds = int(answer.headers["retry-after"])
        assert (answer.status, answer.error()["code"]) == (429, "TOOMANYREQUESTS")
        assert (
            f"too many failed logins from your address; try again in {seconds} s"
            in (answer.error()["message"])
        )
        assert (await server.ask("/v2/", headers=bearer("static"))).status == 200
        assert (await server.ask("/v2/", headers=basic("ci", "static"))).status == 200


EMPTY = ("", "Basic", "Basic ", "basic Og==", "Basic Og==", "Bearer", "Bearer ", "BEARER")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("header", EMPTY)
async def test_empty_credentials(make: Make, header: str) -> None:
    """Empty credentials are none: who sends them is told to authenticate, and not that they are
    wrong; where anonymous clients may pull, they do."""
    headers = {"Authorization": header}
    async with serving(auth=make()) as server:
        with capturedLogs() as captured:
            for path in ("/v2/", "/token", PATHS[0]):
                answer = await server.ask(path, headers=headers)
                assert is_refused(answer)
                assert answer.error()["message"] == "authentication required"
        assert not [event for event in captured if "credentials were" in (formatEvent(event) or "")]
    async with serving(auth=make('[anonymous]\nallow = ["hello"]')) as server:
        assert (await server.ask(PATHS[0], headers=headers)).status == 200
        assert await _token(server, headers) == "anonymous"
        answer = await server.ask("/v2/", headers=headers)
        assert is_refused(answer)
        assert answer.error()["message"] == (
            "authentication required; anonymous clients must request a token"
        )


@pytest_twisted.ensureDeferred
async def test_two_headers(make: Make) -> None:
    """A request with two Authorization headers is refused, whatever is in them."""
    async with serving(auth=make()) as server:
        line = f"Authorization: {ALICE['Authorization']}\r\n"
        request = f"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}{line}\r\n"
        assert b" 401 " in (await server.send(request.encode()))[:20]


@pytest_twisted.ensureDeferred
async def test_tags_that_a_user_may_not_pull(make: Make) -> None:
    """A list of tags holds those that the user may pull, page by page."""
    rules = '[users.alice]\nallow-tags = ["a*"]'
    async with serving(auth=make(rules)) as server:
        server.builder.offered = ["a1", "a2", "a3", "b", "latest"]
        whole = await server.ask("/v2/hello/tags/list", headers=ALICE)
        assert json.loads(whole.body)["tags"] == ["a1", "a2", "a3"]
        assert "link" not in whole.headers
        page = await server.ask("/v2/hello/tags/list?n=2&last=a1", headers=ALICE)
        assert json.loads(page.body)["tags"] == ["a2", "a3"]
        assert "link" not in page.headers
        assert is_refused(await server.ask("/v2/hello/manifests/b", headers=ALICE), 403)


@pytest_twisted.ensureDeferred
async def test_errors_name_nothing_denied(make: Make) -> None:
    """Suggestions leave out what the user may not pull; others get them whole."""
    cases: list[tuple[NixeryError, str, str]] = [
        (UnknownPackage("secre", ("secret", "secure")), "secret", "secure"),
        (
            UnknownPackage("x", meant=(Suggestion("secret"), Suggestion("secure", "x"))),
            "secret",
            "secure",
        ),
        (NotAPackage("x", "a set of packages", ("secret", "other")), "secret", "other"),
    ]
    async with serving(auth=make('[users.alice]\ndeny = ["secret"]')) as server:
        for error, denied, seen in cases:
            server.builder.error = error
            for headers, told in ((ALICE, False), (BOB, True)):
                said = (await server.ask(PATHS[0], headers=headers)).body.decode()
                assert (denied in said) == told
                assert seen in said


@pytest_twisted.ensureDeferred
async def test_builds_of_images_that_a_user_may_not_pull(make: Make, tmp_path: Path) -> None:
    """A user sees the builds of images that it may pull, and of others not even that they are."""
    history = await open_history(tmp_path / "history")
    hidden, shown = begin(history, "secret"), begin(history, "hello")
    hidden.done("sha256:x")
    shown.done("sha256:x")
    await history.stop()
    auth = make('[users.alice]\ndeny = ["secret"]')
    async with serving(auth=auth, history=history) as server:
        for headers, ids in ((ALICE, [shown.id]), (BOB, [shown.id, hidden.id])):
            listed = json.loads((await server.ask("/builds", headers=headers)).body)
            assert [line["id"] for line in listed] == ids
            for rest in ("", "/events", "/log"):
                answer = await server.ask(f"/builds/{hidden.id}{rest}", headers=headers)
                assert answer.status == (200 if hidden.id in ids else 404)
        assert is_refused(await server.ask(f"/builds/{shown.id}"))


@pytest_twisted.ensureDeferred
async def test_refusals_are_logged(make: Make) -> None:
    """The log says where wrong credentials came from, and nothing of what they were."""
    trusted = Trusted.parse("127.0.0.1")
    async with serving(auth=make(), trusted=trusted) as server:
        with capturedLogs() as captured:
            headers = {**basic("alice", "my-guess"), "X-Forwarded-For": "192.0.2.7"}
            assert is_refused(await server.ask("/v2/", headers=headers))
        said = [formatEvent(event) or "" for event in captured]
        assert "192.0.2.7: credentials were refused" in said
        assert not [line for line in said if "my-guess" in line or "Basic" in line]
