"""V4 signatures of URLs, verified as Google Cloud Storage does.

https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.gcs.answers import Asked, Refused, decode, encode

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST = 604800
"""Seconds that a signature may be good for."""
SKEW = 15 * 60
"""Seconds by which the signer's clock may be ahead."""
_NAMES = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
_CREDENTIAL = re.compile(
    r"(?P<account>[^/]+)/(?P<scope>(?P<day>\d{8})/[^/]+/storage/goog4_request)"
)
_PAYLOAD = "x-goog-content-sha256"


@attrs.frozen
class Claim:
    """What a signed URL says about its signature.

    :ivar date: when it was signed, as it is written.
    :ivar expires: how many seconds it is good for.
    """

    account: str
    scope: str
    date: str
    expires: int
    signed_headers: tuple[str, ...]
    signature: bytes

    @property
    def signed_at(self) -> float:
        """Seconds since 1970."""
        moment = datetime.strptime(self.date, "%Y%m%dT%H%M%SZ")
        return moment.replace(tzinfo=UTC).timestamp()


def is_signed(asked: Asked) -> bool:
    """Whether a URL has anything of a signature."""
    return any(name.startswith("X-Goog-") for name, _ in _pairs(asked))


def verify(asked: Asked, keys: Mapping[str, RSAPublicKey], now: float) -> str:
    """Verify a signed URL; :func:`check_payload` is for the body.

    :param keys: the accounts' public keys.
    :param now: seconds since 1970.
    :returns: the account that signed it.
    :raises Refused: if it is not, or no longer, good.
    """
    claim = _read(asked)
    _check_time(claim, now)
    _check_headers(claim, asked)
    key = keys.get(claim.account)
    if key is None:
        raise Refused(403, "AccessDenied", f"{claim.account} is not known.")
    requests = [canonical_request(claim, asked, host) for host in _hosts(asked)]
    if not any(_is_good(claim, request, key) for request in requests):
        message = "Access denied."
        details = {
            "StringToSign": string_to_sign(claim, requests[0]),
            "CanonicalRequest": requests[0],
        }
        raise Refused(403, "SignatureDoesNotMatch", message, details=details)
    return claim.account


def check_payload(asked: Asked) -> None:
    """
    :raises Refused: if a body was signed, and this is another one.
    """
    expected = asked.headers.get(_PAYLOAD, "UNSIGNED-PAYLOAD")
    if expected not in ("UNSIGNED-PAYLOAD", hashlib.sha256(asked.body).hexdigest()):
        raise Refused(400, "XAmzContentSHA256Mismatch", "The body is another one than was signed.")


def canonical_request(claim: Claim, asked: Asked, host: str) -> str:
    """What is signed of a request.

    :param host: what stands for the header of that name.
    """
    pairs = [(encode(name), encode(value)) for name, value in _pairs(asked)]
    query = "&".join(f"{n}={v}" for n, v in sorted(pairs) if n != "X-Goog-Signature")
    headers = {**asked.headers, "host": host}
    names = sorted(claim.signed_headers)
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    payload = asked.headers.get(_PAYLOAD, "UNSIGNED-PAYLOAD")
    path = encode(decode(asked.path), "/")
    return "\n".join((asked.method, path, query, lines, ";".join(names), payload))


def string_to_sign(claim: Claim, request: str) -> str:
    digest = hashlib.sha256(request.encode()).hexdigest()
    return "\n".join((ALGORITHM, claim.date, claim.scope, digest))


def _pairs(asked: Asked) -> list[tuple[str, str]]:
    return parse_qsl(asked.raw_query, keep_blank_values=True)


def _read(asked: Asked) -> Claim:
    values: dict[str, str] = {}
    for name, value in _pairs(asked):
        if name in values and name.startswith("X-Goog-"):
            raise _unreadable(f"{name} is there twice.")
        values[name] = value
    lacking = [name for name in _NAMES if f"X-Goog-{name}" not in values]
    if lacking:
        raise _unreadable(f"X-Goog-{lacking[0]} lacks.")
    algorithm, credential, date, expires, signed, signature = (
        values[f"X-Goog-{name}"] for name in _NAMES
    )
    parts = _CREDENTIAL.fullmatch(credential)
    if algorithm != ALGORITHM or parts is None:
        raise _unreadable(f"{algorithm} with {credential} is not supported.")
    if not re.fullmatch(r"\d{8}T\d{6}Z", date) or not date.startswith(parts["day"]):
        raise _unreadable(f"The date {date} is not of the credential's day.")
    if not re.fullmatch(r"[0-9]{1,9}", expires) or not 0 < int(expires) <= LONGEST:
        raise _unreadable(f"X-Goog-Expires has to be between 1 and {LONGEST} seconds.")
    if not re.fullmatch("([0-9a-f]{2})+", signature):
        raise Refused(403, "SignatureDoesNotMatch", "The signature is no hexadecimal number.")
    return Claim(
        parts["account"],
        parts["scope"],
        date,
        int(expires),
        tuple(signed.split(";")),
        bytes.fromhex(signature),
    )


def _check_time(claim: Claim, now: float) -> None:
    try:
        signed_at = claim.signed_at
    except ValueError as error:
        raise _unreadable(f"{claim.date} is no date.") from error
    if signed_at > now + SKEW:
        raise Refused(403, "RequestTimeTooSkewed", "The signature is of the future.")
    if now > signed_at + claim.expires:
        end = datetime.fromtimestamp(signed_at + claim.expires, UTC).isoformat()
        details = {"Details": f"Request signature expired at: {end}"}
        raise Refused(400, "ExpiredToken", "Invalid argument.", details=details)


def _check_headers(claim: Claim, asked: Asked) -> None:
    """The host and all of Google's headers have to be signed; what is signed has to be there."""
    signed = set(claim.signed_headers)
    own = {name for name in asked.headers if name.startswith("x-goog-")}
    unsigned = ({"host"} | own) - signed
    if unsigned:
        raise _unreadable(f"The header {min(unsigned)} has to be signed.")
    lacking = signed - set(asked.headers)
    if lacking:
        raise _unreadable(f"The signed header {min(lacking)} lacks.")


def _hosts(asked: Asked) -> list[str]:
    """The host as it is named, and without its port: clients sign either."""
    host = asked.headers["host"]
    return [host, re.sub(r":\d+$", "", host)]


def _is_good(claim: Claim, request: str, key: RSAPublicKey) -> bool:
    text = string_to_sign(claim, request)
    try:
        key.verify(claim.signature, text.encode(), PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _unreadable(message: str) -> Refused:
    return Refused(400, "AuthorizationQueryParametersError", message)
