"""Where S3 is and who asks it, found as Amazon's own tools find it: in the environment, in profile
files, by web identity, of a container or a machine. Never in the reactor's thread."""

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import attrs
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
)

from nixery.model.text import cut
from nixery.storage.objects.object_store import PassingFault, Refused
from nixery.storage.objects.s3_signature import S3Signer

_REGION = "us-east-1"  # where none is named, as other services than Amazon's take it
_FRESH = 360.0  # seconds; what botocore hands out is good for ten minutes at least
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
        :param environ: where ``AWS_REGION`` is looked for, which botocore does not know; for all
            else botocore reads the process's own environment.
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
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
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
        found = session.get_credentials()
        if found is None:
            raise Refused(
                "no AWS credentials were found: not in the environment, nor in ~/.aws, nor by web "
                "identity, nor of a container or machine"
            )
        if self._place is None:
            self._place = _place_in(session, self._environ.get("AWS_REGION"))
        return found


def _place_in(session: Any, region: str | None) -> tuple[str, str, str]:
    """Endpoint, addressing style and region."""
    region = region or session.get_config_variable("region") or _REGION
    settings = session.get_scoped_config().get("s3")
    style = settings.get("addressing_style", "") if isinstance(settings, dict) else ""
    regional = Config(signature_version=UNSIGNED, s3={"us_east_1_regional_endpoint": "regional"})
    client = session.create_client("s3", region, config=regional)
    client.close()
    return client.meta.endpoint_url.rstrip("/"), "" if style == "auto" else style, region


def _is_passing(error: Exception) -> bool:
    if isinstance(error, ClientError):
        answer: Mapping[str, Any] = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or answer.get("Error", {}).get("Code") in _THROTTLED
    return isinstance(error, HTTPClientError | CredentialRetrievalError | OSError)
