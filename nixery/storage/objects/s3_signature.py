"""Signature Version 4 of requests to S3, by botocore's signers: pure.

Their public methods are called one by one, since the one for all takes the machine's own time: a
URL is dated back, and where the machine's clock is wrong, the service's time is what counts.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import attrs
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

_ALGORITHM = "AWS4-HMAC-SHA256"


@attrs.frozen
class S3Signer:
    """Signs with some credentials.

    :param credentials: botocore's, frozen.
    :param region: that the bucket is in.
    """

    credentials: Any = attrs.field(repr=False)
    region: str

    def headers(
        self, method: str, url: str, headers: Mapping[str, str], sha256: str, when: float
    ) -> dict[str, str]:
        """A request's headers, and those that sign them and its body.

        :param url: path and query quoted.
        :param sha256: of the body, in hexadecimal digits; the service compares it.
        :param when: seconds since the epoch.
        """
        signed = {**headers, "X-Amz-Content-SHA256": sha256, "X-Amz-Date": _stamp(when)}
        if self.credentials.token:
            signed["X-Amz-Security-Token"] = self.credentials.token
        auth = S3SigV4Auth(self.credentials, "s3", self.region)
        request = AWSRequest(method, url, headers=signed)
        signature = _signature(auth, request, when)
        names = auth.signed_headers(auth.headers_to_sign(request))
        signed["Authorization"] = (
            f"{_ALGORITHM} Credential={auth.scope(request)}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return signed

    def url(self, url: str, since: float, lifetime: int) -> str:
        """A URL that lets its bearer GET an object.

        :param url: the object's, its path quoted.
        :param since: when the URL begins to work, in seconds since the epoch.
        :param lifetime: seconds from then on.
        """
        auth = S3SigV4QueryAuth(self.credentials, "s3", self.region, lifetime)
        request = AWSRequest("GET", url)
        request.context["timestamp"] = _stamp(since)
        query = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": auth.scope(request),
            "X-Amz-Date": _stamp(since),
            "X-Amz-Expires": lifetime,
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.token:
            query["X-Amz-Security-Token"] = self.credentials.token
        request.url = f"{url}?{urlencode(query, quote_via=quote, safe='~')}"
        return f"{request.url}&X-Amz-Signature={_signature(auth, request, since)}"


def _signature(auth: Any, request: Any, when: float) -> str:
    request.context["timestamp"] = _stamp(when)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signature: str = auth.signature(text, request)
    return signature


def _stamp(when: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(when))
