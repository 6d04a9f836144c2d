"""SigV4 signatures of requests and URLs, verified as S3 does, by what botocore signs.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote

import attrs
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from tests.gcs.answers import Asked, Refused

SKEW = 15 * 60
"""Seconds by which the signer's clock may differ."""
LONGEST = 604800
"""Seconds that a URL may be good for."""
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{{64}})"
)
_UNSIGNED = "UNSIGNED-PAYLOAD"


@attrs.frozen
class Key:
    """An access key.

    :ivar expires: when its session is over, in seconds since 1970.
    """

    id: str
    secret: str
    token: str | None = None
    expires: float | None = None


@attrs.frozen
class Claim:
    """What a request says of its signature."""

    credential: str
    signed_headers: str
    signature: str
    date: str
    token: str | None
    payload: str

    @property
    def signed_at(self) -> float:
        """Seconds since 1970."""
        return datetime.strptime(self.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def is_presigned(asked: Asked) -> bool:
    """Whether a URL has anything of a signature."""
    return "X-Amz-Signature" in asked.query


def verify(asked: Asked, keys: Mapping[str, Key], region: str, now: float) -> None:
    """Verify a request, its body included.

    :raises Refused: as S3 does.
    """
    claim = _claim(asked)
    key_id, day, at, service, end = claim.credential.split("/")
    key = keys.get(key_id)
    if key is None:
        raise Refused(403, "InvalidAccessKeyId", "The key that you provided does not exist.")
    if at != region:
        details = {"Region": region}
        message = f"The authorization header is malformed; the region '{at}' is wrong"
        headers = {"x-amz-bucket-region": region}
        raise Refused(400, "AuthorizationHeaderMalformed", message, "", details, headers)
    if (service, end, day) != ("s3", "aws4_request", claim.date[:8]):
        raise Refused(400, "AuthorizationHeaderMalformed", "The scope is wrong.")
    if not hmac.compare_digest(_signature(asked, claim, key, at), claim.signature):
        raise Refused(403, "SignatureDoesNotMatch", "The signature does not match.")
    _check_time(asked, claim, now)
    if claim.token != key.token:
        raise Refused(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    if key.expires is not None and now >= key.expires:
        raise Refused(400, "ExpiredToken", "The provided token has expired.")
    if claim.payload not in (_UNSIGNED, hashlib.sha256(asked.body).hexdigest()):
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise Refused(400, "XAmzContentSHA256Mismatch", message)


def _claim(asked: Asked) -> Claim:
    query, headers = asked.query, asked.headers
    if is_presigned(asked):
        return Claim(
            query["X-Amz-Credential"],
            query["X-Amz-SignedHeaders"],
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            query.get("X-Amz-Security-Token"),
            _UNSIGNED,
        )
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise Refused(403, "AccessDenied", "Access Denied")
    signed = set(match[2].split(";"))
    if unsigned := {name for name in headers if name.startswith("x-amz-")} - signed:
        raise Refused(403, "AccessDenied", f"There were headers that are not signed: {unsigned}")
    token, payload = headers.get("x-amz-security-token"), headers["x-amz-content-sha256"]
    return Claim(match[1], match[2], match[3], headers["x-amz-date"], token, payload)


def _check_time(asked: Asked, claim: Claim, now: float) -> None:
    age = now - claim.signed_at
    if not is_presigned(asked):
        if abs(age) > SKEW:
            message = "The difference between the request time and the current time is too large."
            raise Refused(403, "RequestTimeTooSkewed", message)
        return
    lifetime = int(asked.query["X-Amz-Expires"])
    if not 0 < lifetime <= LONGEST:
        raise Refused(400, "AuthorizationQueryParametersError", "X-Amz-Expires is out of range")
    if age < -SKEW:
        raise Refused(403, "AccessDenied", "Request is not valid yet")
    if age > lifetime:
        raise Refused(403, "AccessDenied", "Request has expired")


def _signature(asked: Asked, claim: Claim, key: Key, region: str) -> str:
    """The signature that the request should have: of what it is understood as, so that a query
    that is quoted in another way is the same."""
    pairs = [
        (name, value)
        for name, value in parse_qsl(asked.raw_query, keep_blank_values=True)
        if name != "X-Amz-Signature"
    ]
    query = "&".join(f"{quote(name, '~')}={quote(value, '~')}" for name, value in pairs)
    url = f"http://{asked.headers['host']}{asked.path}" + (f"?{query}" if query else "")
    names = claim.signed_headers.split(";")
    if "host" not in names:
        raise Refused(403, "SignatureDoesNotMatch", "The host is not signed.")
    headers = {name: asked.headers.get(name, "") for name in names}
    headers["x-amz-content-sha256"] = claim.payload
    request: Any = AWSRequest(asked.method, url, headers=headers)
    request.context["timestamp"] = claim.date
    auth: Any = _Auth(ReadOnlyCredentials(key.id, key.secret, key.token), "s3", region)
    auth.names = names
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signature: str = auth.signature(text, request)
    return signature


class _Auth(S3SigV4Auth):  # type: ignore[misc]
    """Takes those headers for signed that a request says are."""

    names: list[str]

    def headers_to_sign(self, request: Any) -> Any:
        found = super().headers_to_sign(request)
        for name in set(found.keys()):
            if name.lower() not in self.names:
                del found[name]
        return found
