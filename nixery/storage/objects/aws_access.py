"""Where S3 is and who asks it, found as Amazon's own tools find it: in the environment, in profile
files, by web identity, of a container or a machine. Never in the reactor's thread."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, CredentialRetrievalError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected

from nixery.model.text import cut
from nixery.storage.objects.object_store import PassingFault, Refused
from nixery.storage.objects.s3_signature import S3Signer

_REGION = "us-east-1"  # where none is named, as other services than Amazon's take it
_FRESH = 360.0  # seconds; what botocore hands out is good for ten minutes at least
_LIMIT = 8.0  # seconds that one try may wait for the network
_THROTTLED = ("Throttling", "ThrottlingException", "RequestLimitExceeded")


@attrs.frozen
class S3Access:
    """Where requests go, and what signs them.

    :param endpoint: the service's URL, without a slash at its end.
    :param style: ``path`` or ``virtual``: whether a bucket is in the path or the host's name; empty
        for what suits the endpoint.
    """

    endpoint: str
    style: str
    signer: S3Signer

    def bucket_url(self, bucket: str, public: str | None = None) -> str:
        """A bucket's URL, without a slash at its end.

        :param public: another endpoint than the one for requests.
        """
        parts = urlsplit(public or self.endpoint)
        # A certificate for *.s3.amazonaws.com is good for no name with a dot in it.
        fits = ".amazonaws.com" in parts.netloc and "." not in bucket
        if self.style == "virtual" or (not self.style and fits):
            return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path.rstrip('/')}"
        return f"{parts.geturl().rstrip('/')}/{quote(bucket)}"


class AwsProfile:
    """The configured endpoint, region and credentials. Methods block: for threads."""

    def __init__(self, environ: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        """
        :param environ: where region and endpoint are looked for. botocore knows neither
            ``AWS_REGION``, nor how to tell an endpoint; for all else it reads the process's own
            environment. The service that gives credentials is asked in the same region.
        :param now: seconds since the epoch.
        """
        self._environ = environ
        self._now = now
        self._place: tuple[str, str, str] | None = None
        self._credentials: Any = None

    def fetch(self) -> tuple[S3Access, float]:
        """The access to S3, with credentials that are good for ten minutes, and until when it
        counts.

        botocore replaces credentials that expire at least ten minutes before.

        :raises PassingFault: if there are no credentials now.
        :raises Refused: if there are none, or what is configured can't be used.
        """
        try:
            self._credentials = credentials = self._credentials or self._find()
            frozen = credentials.get_frozen_credentials()
        except Exception as error:  # files, networks, programs: each has its own ways to fail
            text = f"no access to S3: {cut(str(error), 300)}"
            raise (PassingFault if _is_passing(error) else Refused)(text) from error
        assert self._place is not None
        endpoint, style, region = self._place
        return S3Access(endpoint, style, S3Signer(frozen, region)), self._now() + _FRESH

    def forget(self) -> None:
        """Look for the credentials anew next time: files may have others."""
        self._credentials = None

    def _find(self) -> Any:
        session = botocore.session.Session()
        # For the services that give credentials: a try that is lost would take a minute else.
        session.set_default_client_config(Config(connect_timeout=_LIMIT, read_timeout=_LIMIT))
        if region := self._environ.get("AWS_REGION"):
            session.set_config_variable("region", region)
        found = session.get_credentials()
        if found is None:
            raise ValueError(
                "no AWS credentials were found: not in the environment, nor in ~/.aws, nor by web "
                "identity, nor of a container or machine"
            )
        if self._place is None:
            self._place = _place_in(session, self._environ)
        return found


def _place_in(session: Any, environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Endpoint, addressing style and region. A client would know them, too, but takes a quarter of
    the daemon's memory.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    region = session.get_config_variable("region") or _REGION
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    named = (
        *(environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")),
        *(each.get("endpoint_url") for each in (_section(services), profile)),
    )
    endpoint = next(filter(None, named), None)
    if endpoint is None or session.get_config_variable("ignore_configured_endpoint_urls"):
        endpoint = _amazons(session, region)
    elif not re.fullmatch("https?://[^/]+(/.*)?", endpoint):
        raise ValueError(f"the endpoint {endpoint!r} is no URL that begins with https or http")
    style = _section(profile).get("addressing_style", "")
    return endpoint.rstrip("/"), "" if style == "auto" else style, region


def _section(settings: Mapping[str, Any]) -> Mapping[str, str]:
    """What is set for S3 in a section of a file."""
    found = settings.get("s3")
    return found if isinstance(found, dict) else {}


def _amazons(session: Any, region: str) -> str:
    """Amazon's own endpoint in a region.

    https://docs.aws.amazon.com/general/latest/gr/s3.html
    """
    fips = "-fips" if session.get_config_variable("use_fips_endpoint") else ""
    dual = "dualstack." if session.get_config_variable("use_dualstack_endpoint") else ""
    china = ".cn" if region.startswith("cn-") else ""
    return f"https://s3{fips}.{dual}{region}.amazonaws.com{china}"


def _is_passing(error: Exception) -> bool:
    if isinstance(error, ClientError):
        answer: Mapping[str, Any] = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or answer.get("Error", {}).get("Code") in _THROTTLED
    network = (HTTPClientError, NotConnected, OSError)
    return isinstance(error, (CredentialRetrievalError, *network))
