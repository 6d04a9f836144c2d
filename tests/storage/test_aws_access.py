"""Where S3 is and who asks it, as botocore finds it."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from nixery.storage.objects.aws_access import AwsProfile, S3Access
from nixery.storage.objects.object_store import PassingFault, Refused


@pytest.fixture(autouse=True)
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine, and no role of it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def fetch(**environ: str) -> S3Access:
    return AwsProfile({**os.environ, **environ}).fetch()[0]


@pytest.mark.usefixtures("with_key")
def test_amazon() -> None:
    """Without an endpoint it is Amazon's in the region, and the bucket is in the host's name,
    unless there is a dot in its own."""
    access = fetch(AWS_REGION="eu-west-1")
    assert access.signer.region == "eu-west-1"
    assert access.bucket_url("images") == "https://images.s3.eu-west-1.amazonaws.com"
    assert access.bucket_url("my.images") == "https://s3.eu-west-1.amazonaws.com/my.images"
    assert fetch().bucket_url("images") == "https://images.s3.us-east-1.amazonaws.com"
    china = fetch(AWS_REGION="cn-north-1").bucket_url("images")
    assert china == "https://images.s3.cn-north-1.amazonaws.com.cn"


@pytest.mark.usefixtures("with_key")
def test_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """At another endpoint the bucket is in the path; clients may reach it at another address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one:9000")
    assert fetch().bucket_url("images") == "http://one:9000/images"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two:9000/")
    assert fetch().bucket_url("images") == "http://two:9000/images"
    assert fetch().bucket_url("images", "https://pub/s3/") == "https://pub/s3/images"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "two")
    with pytest.raises(Refused, match="'two' is no URL"):
        fetch()


def test_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile names region, endpoint, addressing style and credentials; one that is not there is
    named."""
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[images]\naws_access_key_id = of-file\naws_secret_access_key = s\n"
    )
    (folder / "config").write_text(
        "[profile images]\nregion = eu-north-1\nendpoint_url = http://h:1\n"
        "s3 =\n  addressing_style = virtual\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "images")
    access = fetch()
    assert access.signer.credentials.access_key == "of-file"
    assert access.signer.region == "eu-north-1"
    assert access.bucket_url("b") == "http://b.h:1"
    (folder / "config").write_text(
        "[profile images]\nservices = near\n[services near]\ns3 =\n  endpoint_url = http://near:1\n"
    )
    assert fetch().bucket_url("b") == "http://near:1/b"
    ignored = "https://b.s3.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert fetch().bucket_url("b") == ignored
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    assert fetch().bucket_url("b") == "https://b.s3.dualstack.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(Refused, match="other"):
        fetch()


def test_no_credentials() -> None:
    """Where there are none, it is said where they were looked for."""
    with pytest.raises(Refused, match=r"no AWS credentials were found.*~/\.aws"):
        fetch()


@pytest.mark.parametrize("said", ["[]", "x", '{"Version": 2}', ""])
def test_a_program_that_says_nonsense(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a program for credentials says, it is a failure of a known kind."""
    (tmp_path / "said").write_text(said)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'said'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises((PassingFault, Refused), match="no access to S3"):
        fetch()


class Role(BaseHTTPRequestHandler):
    """Hands out the credentials of a container's role."""

    status = 200
    count = 0

    def do_GET(self) -> None:
        Role.count += 1
        end = datetime.now(UTC) + timedelta(hours=1)
        document = {
            "AccessKeyId": f"of-role-{Role.count}",
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = json.dumps(document).encode()
        self.send_response(Role.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Role]]:
    server = HTTPServer(("127.0.0.1", 0), Role)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/role"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
    Role.status, Role.count = 200, 0
    yield Role
    server.shutdown()
    server.server_close()


@pytest.fixture
def web_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role by a token in a file, for which STS gives credentials."""
    (tmp_path / "token").write_text("a token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/images")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.usefixtures("web_identity")
def test_web_identity_in_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials are asked for in the region that ``AWS_REGION`` names; that they can't be had
    now may pass."""
    asked = set()

    def look_up(host: str, *_: object, **__: object) -> object:
        asked.add(host)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    with pytest.raises(PassingFault, match="Could not connect"):
        fetch(AWS_REGION="eu-central-2")
    assert asked == {"sts.eu-central-2.amazonaws.com"}


@pytest.mark.usefixtures("web_identity")
def test_web_identity_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that takes connections and says nothing is given up soon."""
    monkeypatch.setattr("nixery.storage.objects.aws_access._LIMIT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(PassingFault, match="timeout"):
            fetch(AWS_REGION="eu-central-2")


def test_a_role(role: type[Role]) -> None:
    """A role's credentials are kept while they are good, and fetched anew if they were refused."""
    profile = AwsProfile({})
    first, until = profile.fetch()
    assert first.signer.credentials.token == "t"
    assert profile.fetch()[0] == first
    assert role.count == 1
    assert until < datetime.now(UTC).timestamp() + 600
    profile.forget()
    assert profile.fetch()[0].signer.credentials.access_key == "of-role-2"


def test_a_role_that_fails(role: type[Role], monkeypatch: pytest.MonkeyPatch) -> None:
    """What hands out a role's credentials may fail, and be asked again."""
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    role.status = 500
    with pytest.raises(PassingFault, match="no access to S3"):
        fetch()
