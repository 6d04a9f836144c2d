"""Requests and URLs are signed as Amazon's documentation has it, and as its own client does."""

import hashlib
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from nixery.storage.objects.s3_signature import S3Signer
from tests.gcs.answers import Asked, Refused
from tests.s3.signatures import Key, verify

KEY = Key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
SIGNER = S3Signer(ReadOnlyCredentials(KEY.id, KEY.secret, None), "us-east-1")
MOMENT = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
HOST = "examplebucket.s3.amazonaws.com"
NOTHING = hashlib.sha256().hexdigest()


def test_secrets() -> None:
    """What a signer looks like in a log tells no secret."""
    assert KEY.secret not in repr(SIGNER)


def test_published_request() -> None:
    """The request of a range in Amazon's documentation has the signature that is printed there."""
    headers = {"Range": "bytes=0-9"}
    signed = SIGNER.headers("GET", f"https://{HOST}/test.txt", headers, NOTHING, MOMENT)
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


def test_published_url() -> None:
    """The URL in Amazon's documentation is what comes of it."""
    assert SIGNER.url(f"https://{HOST}/test.txt", MOMENT, 86400) == (
        f"https://{HOST}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_as_the_client_signs() -> None:
    """A URL is the one that botocore's client makes of the same object at the same time, also with
    the token of a session."""
    token = "a/session+token=="
    client = botocore.session.Session().create_client(
        "s3",
        "eu-west-1",
        aws_access_key_id=KEY.id,
        aws_secret_access_key=KEY.secret,
        aws_session_token=token,
        config=Config(signature_version="s3v4"),
    )
    theirs = client.generate_presigned_url(
        "get_object", Params={"Bucket": "images", "Key": "layers/0a"}, ExpiresIn=360
    )
    stamp = parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0]
    moment = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    signer = S3Signer(ReadOnlyCredentials(KEY.id, KEY.secret, token), "eu-west-1")
    assert _pairs(signer.url(theirs.partition("?")[0], moment, 360)) == _pairs(theirs)


def _pairs(url: str) -> list[str]:
    address, _, query = url.partition("?")
    return [address, *sorted(query.split("&"))]


@given(
    name=st.text("ab/._-~", min_size=1, max_size=20),
    query=st.dictionaries(st.sampled_from(["uploadId", "prefix"]), st.text("a+/=~ &", max_size=9)),
    body=st.binary(max_size=50),
    changed=st.sampled_from(["", "method", "path", "query", "header", "body", "secret", "time"]),
)
def test_what_is_signed(name: str, query: dict[str, str], body: bytes, changed: str) -> None:
    """A signature is good for the request that was signed, and for no other one."""
    text = urlencode(query, quote_via=quote, safe="~")
    url = f"http://host:1/bucket/{quote(name)}" + (f"?{text}" if text else "")
    sha256 = hashlib.sha256(body).hexdigest()
    signed = SIGNER.headers("PUT", url, {"x-amz-meta-a": "b"}, sha256, MOMENT)
    headers = {key.lower(): value for key, value in signed.items()} | {"host": "host:1"}
    path = f"/bucket/{quote(name)}"
    keys, now = {KEY.id: KEY}, MOMENT
    method = "PUT"
    match changed:
        case "method":
            method = "POST"
        case "path":
            path += "x"
        case "query":
            text = f"{text}&x=" if text else "x="
        case "header":
            headers["x-amz-meta-a"] = "c"
        case "body":
            body += b"x"
        case "secret":
            keys = {KEY.id: Key(KEY.id, "another")}
        case "time":
            now += 901
    asked = Asked(method, path, text, headers, body)
    if not changed:
        verify(asked, keys, "us-east-1", now)
        return
    with pytest.raises(Refused):
        verify(asked, keys, "us-east-1", now)
