"""Who may pull what, with real clients."""

import base64
import re
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import bcrypt
import pytest

from tests.access.signing import AUDIENCE, ISSUER, Signer
from tests.e2e.clients import Docker, Podman, Ran, run
from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.token_server import PASSWORD, USER, TokenServer, token_server
from tests.ports import free_port
from tests.waiting import wait_until
from tests.web.certificates import make_pair

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

SIGNER = Signer.of("RS256")
LOGIN = ("-u", USER, "-p", PASSWORD)


def users(folder: Path, rules: str = "") -> dict[str, str]:
    """Settings for one user with a password, one with a token, and some rules."""
    hidden = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
    contents = {
        "HTPASSWD": f"{USER}:{hidden.replace('$2b$', '$2y$')}\n",
        "TOKENS": f"ci:{sha256(b'static').hexdigest()}\n",
        "RULES": rules,
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
    return {f"NIXERY_{name}": str(folder / name) for name in contents}


def skopeo(daemon: Daemon, name: str, folder: Path, *options: str) -> Ran:
    """Copy an image to a folder."""
    source, target = f"docker://{daemon.host}/{name}", f"dir:{folder}"
    return run(["skopeo", "copy", "--src-tls-verify=false", *options, source, target])


@pytest.fixture
def logged_out(docker: Docker) -> Iterator[Docker]:
    """A Docker client that forgets what it was told."""
    yield docker
    (docker.socket.parent / "config.json").unlink(missing_ok=True)


def test_htpasswd(start_daemon: StartDaemon, logged_out: Docker, tmp_path: Path) -> None:
    """docker pulls once it is logged in, what the user may pull, until it is logged out."""
    docker = logged_out
    daemon = start_daemon(**users(tmp_path, f'[users.{USER}]\ndeny = ["jq"]'))
    assert docker("pull", f"{daemon.host}/hello").code != 0
    assert docker("login", "-u", USER, "-p", "wrong", daemon.host).code != 0
    assert docker("pull", f"{daemon.host}/hello").code != 0
    assert "Succeeded" in docker.ok("login", *LOGIN, daemon.host)
    docker.ok("pull", f"{daemon.host}/hello")
    refused = docker("pull", f"{daemon.host}/hello/jq")
    assert refused.code != 0
    assert "denied" in refused.output
    docker.ok("logout", daemon.host)
    assert docker("pull", f"{daemon.host}/shell").code != 0
    assert PASSWORD not in daemon.log


def test_anonymous_and_users(start_daemon: StartDaemon, logged_out: Docker, tmp_path: Path) -> None:
    """Where anonymous clients may pull something, docker pulls that without a login, more with
    one, and a wrong password is refused; so it is with skopeo."""
    docker = logged_out
    daemon = start_daemon(**users(tmp_path, '[anonymous]\nallow = ["hello"]'))
    docker.ok("pull", f"{daemon.host}/hello")
    assert docker("pull", f"{daemon.host}/jq").code != 0
    assert docker("login", "-u", USER, "-p", "wrong", daemon.host).code != 0
    docker.ok("login", *LOGIN, daemon.host)
    docker.ok("pull", f"{daemon.host}/jq")
    docker.ok("logout", daemon.host)
    assert docker("pull", f"{daemon.host}/shell").code != 0
    credentials = ("--src-creds", f"{USER}:{PASSWORD}")
    assert skopeo(daemon, "hello", tmp_path / "a").code == 0
    assert skopeo(daemon, "jq", tmp_path / "b").code != 0
    assert skopeo(daemon, "jq", tmp_path / "c", *credentials).code == 0
    assert skopeo(daemon, "jq", tmp_path / "d", "--src-registry-token", "static").code == 0
    assert skopeo(daemon, "jq", tmp_path / "e", "--src-registry-token", "Static").code != 0


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    """A token server whose one user may pull some images."""
    with token_server(SIGNER, "hello", "shell") as server:
        yield server


@pytest.fixture
def guarded(start_daemon: StartDaemon, tokens: TokenServer, tmp_path: Path) -> Daemon:
    """A daemon that takes the token server's tokens."""
    return start_daemon(
        NIXERY_JWT_KEY=SIGNER.write(tmp_path / "key.pem"),
        NIXERY_JWT_REALM=tokens.realm,
        NIXERY_JWT_AUDIENCE=AUDIENCE,
        NIXERY_JWT_ISSUER=ISSUER,
    )


def test_token_flow(
    guarded: Daemon, tokens: TokenServer, logged_out: Docker, tmp_path: Path
) -> None:
    """docker and skopeo get tokens from the token server, and with them what it grants."""
    docker = logged_out
    assert docker("pull", f"{guarded.host}/hello").code != 0
    assert docker("login", "-u", USER, "-p", "wrong", guarded.host).code != 0
    docker.ok("login", *LOGIN, guarded.host)
    docker.ok("pull", f"{guarded.host}/hello")
    assert docker("pull", f"{guarded.host}/jq").code != 0
    assert {"repository:hello:pull", "repository:jq:pull"} <= set(tokens.asked)
    credentials = ("--src-creds", f"{USER}:{PASSWORD}")
    assert skopeo(guarded, "shell", tmp_path / "a", *credentials).code == 0
    assert skopeo(guarded, "jq", tmp_path / "b", *credentials).code != 0
    assert skopeo(guarded, "shell", tmp_path / "c").code != 0


@pytest.mark.parametrize("changed", [{"exp": 1}, {"aud": "another"}, {"iss": "another"}])
def test_bad_tokens(
    guarded: Daemon, tokens: TokenServer, logged_out: Docker, changed: dict[str, object]
) -> None:
    """A token that is expired, or made for or by another, opens nothing."""
    tokens.changed.update(changed)
    assert logged_out("login", *LOGIN, guarded.host).code != 0
    assert logged_out("pull", f"{guarded.host}/hello").code != 0
    assert guarded.nix_builds == 0


def test_podman(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """podman logs in and out where anonymous clients may pull, too."""
    daemon = start_daemon(**users(tmp_path, '[anonymous]\nallow = ["hello"]'))
    file = ("--authfile", str(tmp_path / "auth.json"), "--tls-verify=false")
    assert run(["podman", "login", *file, "-u", USER, "-p", "x", daemon.host]).code != 0
    assert run(["podman", "login", *file, *LOGIN, daemon.host]).code == 0
    authfile = ("--src-authfile", str(tmp_path / "auth.json"))
    assert skopeo(daemon, "jq", tmp_path / "a", *authfile).code == 0


def test_podman_without_credentials(
    start_daemon: StartDaemon, podman: Podman, tmp_path: Path
) -> None:
    """podman, which sends empty credentials where it has none, says that some are needed, and
    takes what anonymous clients may pull."""
    settings = users(tmp_path)
    image = f"{start_daemon(**settings).host}/hello"
    refused = podman("pull", "--tls-verify=false", image)
    assert refused.code != 0
    assert "authentication required" in refused.output
    assert "invalid or have expired" not in refused.output
    (tmp_path / "RULES").write_text('[anonymous]\nallow = ["hello"]')
    daemon = start_daemon(state=tmp_path / "other", **settings)
    podman.ok("pull", "--tls-verify=false", f"{daemon.host}/hello")
    assert "credentials were refused" not in daemon.log


def test_digests(start_daemon: StartDaemon, logged_out: Docker, tmp_path: Path) -> None:
    """Whoever knows the digest of an image that they may not pull gets nothing of it below another
    name; what they may pull they get by its digest, after a restart too."""
    docker = logged_out
    settings = users(tmp_path, '[anonymous]\nallow = ["hello"]')
    daemon = start_daemon(**settings)
    known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path, header = "/v2/jq/manifests/latest", f"Basic {known}"
    wait_until(lambda: daemon.get(path, Authorization=header).status == 200)
    secret = daemon.get(path, Authorization=header)
    shown = daemon.pull("hello")
    docker.ok("pull", f"{daemon.host}/hello")
    daemon.stop()
    daemon = start_daemon(**settings)
    mine = {each["digest"] for each in shown.json()["layers"]}
    others = [secret.json()["config"], *secret.json()["layers"]]
    blobs = [each["digest"] for each in others if each["digest"] not in mine]
    digest = secret.headers["Docker-Content-Digest"]
    assert len(blobs) >= 2
    for rest in (f"manifests/{digest}", *(f"blobs/{blob}" for blob in (*blobs, digest))):
        for method in ("GET", "HEAD"):
            assert daemon.get(f"/v2/hello/{rest}", method).status == 404
            answer = daemon.get(f"/v2/jq/{rest}", method, Authorization=header)
            assert answer.status == 200
    refused = docker("pull", f"{daemon.host}/hello@{digest}")
    assert refused.code != 0
    assert "no manifest" in refused.output
    docker.ok("rmi", "--force", *docker.ok("images", "--quiet").split())
    docker.ok("pull", f"{daemon.host}/hello@{shown.headers['Docker-Content-Digest']}")


def test_rules_change(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """New rules count without a restart, on SIGHUP at the latest; broken ones don't."""
    daemon = start_daemon(**users(tmp_path, '[anonymous]\nallow = ["hello"]'))
    assert daemon.pull("hello").status == 200
    (tmp_path / "RULES").write_text("[broken")
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "can't be used" in daemon.log)
    assert daemon.pull("hello").status == 200
    (tmp_path / "RULES").write_text('[anonymous]\nallow = ["jq"]')
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.pull("hello").status == 401)
    (tmp_path / "RULES").write_text('[anonymous]\nallow = ["*"]')
    wait_until(lambda: daemon.pull("hello").status == 200)


def test_tls(start_daemon: StartDaemon, docker: Docker, tmp_path: Path) -> None:
    """docker pulls over TLS, and a certificate that is renewed is shown without a restart."""
    pair = make_pair(tmp_path)
    listen = f"ssl:0:privateKey={pair.key}:certKey={pair.certificate}"
    daemon = start_daemon(NIXERY_LISTEN=listen)
    docker.ok("pull", f"{daemon.host}/hello")
    assert _trusts(daemon, pair.certificate)
    old = tmp_path / "old.pem"
    old.write_bytes(Path(pair.certificate).read_bytes())
    make_pair(tmp_path)
    wait_until(lambda: _trusts(daemon, pair.certificate))
    assert not _trusts(daemon, str(old))
    shown = run(["curl", "-sf", "--cacert", pair.certificate, f"https://{daemon.host}/metrics"])
    [expires] = re.findall(
        r"^nixery_certificate_expires_seconds (\S+)$", shown.output, re.MULTILINE
    )
    assert 86400 < float(expires) - time.time() < 3 * 86400


def test_tls_for_those_who_watch(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """A certificate of the endpoint for health and metrics is read again, and its end is told."""
    port = free_port()
    pair, old = make_pair(tmp_path), tmp_path / "old.pem"
    endpoint = f"ssl:{port}:interface=127.0.0.1:certKey={pair.certificate}:privateKey={pair.key}"
    start_daemon(NIXERY_OPERATIONS_LISTEN=endpoint)
    url = f"https://localhost:{port}/metrics"
    shown = run(["curl", "-sf", "--cacert", pair.certificate, url])
    assert re.search(r"^nixery_certificate_expires_seconds \d", shown.output, re.MULTILINE)
    old.write_bytes(Path(pair.certificate).read_bytes())
    make_pair(tmp_path)
    wait_until(lambda: run(["curl", "-sf", "--cacert", pair.certificate, url]).code == 0)
    assert run(["curl", "-sf", "--cacert", str(old), url]).code != 0


def test_tls_and_users(start_daemon: StartDaemon, logged_out: Docker, tmp_path: Path) -> None:
    """Over TLS, tokens are to be had over TLS, and a login works as it does without."""
    pair = make_pair(tmp_path)
    daemon = start_daemon(
        NIXERY_TLS_CERT=pair.certificate,
        NIXERY_TLS_KEY=pair.key,
        **users(tmp_path, '[anonymous]\nallow = ["hello"]'),
    )
    logged_out.ok("pull", f"{daemon.host}/hello")
    logged_out.ok("login", *LOGIN, daemon.host)
    logged_out.ok("pull", f"{daemon.host}/jq")
    shown = run(["curl", "-si", "--cacert", pair.certificate, f"https://{daemon.host}/v2/"])
    assert f'realm="https://{daemon.host}/token"' in shown.output


def _trusts(daemon: Daemon, certificate: str) -> bool:
    """Whether curl takes the certificate that the daemon shows."""
    url = f"https://{daemon.host}/v2/"
    return run(["curl", "-sf", "--cacert", certificate, url]).code == 0


@pytest.mark.real_nix
@pytest.mark.parametrize(
    ("asked", "secret"), [("helo", "hello"), ("haskellpackages", "shellcheck")]
)
def test_names_are_kept_where_builds_are_told_of(
    start_daemon: StartDaemon, tmp_path: Path, asked: str, secret: str
) -> None:
    """A failed build, that its refusal leads to, names no package either which a client may not
    pull."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[everyone]\ndeny = ["hello", "*.shellcheck"]\n')
    daemon = start_daemon(NIXERY_RULES=str(rules))
    refusal = daemon.pull(asked)
    assert refusal.status == 404
    (build,) = re.findall("/builds/[0-9a-f]+", refusal.json()["errors"][0]["message"])
    told = [
        refusal,
        daemon.get(build),
        daemon.get("/builds"),
        daemon.get(build + "/events"),
        daemon.get(build + "/log?raw"),
        daemon.get(build, Accept="text/html"),
        daemon.get("/", Accept="text/html"),
    ]
    for answer in told:
        assert answer.status in (200, 404)
        assert secret not in answer.body.decode("utf-8")
