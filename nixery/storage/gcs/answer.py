"""What Google Cloud Storage answers, and what that means."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import attrs
from twisted.web.http_headers import Headers

from nixery.model.errors import StorageUnavailable
from nixery.model.text import cut

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of faults that may be over in a moment."""


_FULL = ("quotaExceeded", "storageQuotaExceeded", "insufficientStorage")
_LONGEST = 300  # characters of the server's words
_QUERY = re.compile(r"(https?://[^\s?]*)\?\S*")


@attrs.frozen
class Answer:
    """A whole answer.

    :param document: its content, parsed, if that is a JSON object.
    """

    status: int
    headers: Headers
    content: bytes
    document: Mapping[str, Any]

    def header(self, name: str) -> str:
        """A header's value, empty if there is none."""
        values = self.headers.getRawHeaders(name) or [""]
        return values[0]

    @property
    def date(self) -> float | None:
        """The server's time, in seconds since the epoch."""
        try:
            return parsedate_to_datetime(self.header("Date")).timestamp()
        except (TypeError, ValueError):
            return None

    @property
    def retry_after(self) -> float:
        """Seconds that the server wants to be left alone."""
        text = self.header("Retry-After")
        return float(text) if re.fullmatch("[0-9]{1,5}", text) else 0

    @property
    def reason(self) -> str:
        """What the server says, in a line without anything secret."""
        error = self.document.get("error")
        message = error.get("message") if isinstance(error, dict) else None
        text = message if isinstance(message, str) else self.content.decode("utf-8", "replace")
        line = cut(" ".join(_QUERY.sub(r"\1", text).split()), _LONGEST)
        return f"status {self.status}" + (f" ({line})" if line else "")

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        error = self.document.get("error")
        faults = error.get("errors") if isinstance(error, dict) else None
        reasons = [f.get("reason") for f in faults or () if isinstance(f, dict)]
        return self.status == 507 or (
            self.status in (403, 413, 429) and any(reason in _FULL for reason in reasons)
        )


def unavailable(what: str, reason: str) -> StorageUnavailable:
    """The error for something that Google Cloud Storage did not do."""
    return StorageUnavailable(f"{what} in Google Cloud Storage failed: {reason}")
