"""Resumable uploads to Google Cloud Storage.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import contextlib
import re
from collections.abc import Awaitable, Callable

from zope.interface import implementer

from nixery.model.service_errors import StorageFull
from nixery.storage.objects.gcs_answers import object_of, reason_of
from nixery.storage.objects.http_client import HttpAnswer
from nixery.storage.objects.object_store import (
    IObjectUpload,
    PassingFault,
    Refused,
    StoredObject,
)

_INCOMPLETE = 308
_LOST = (404, 410, 499)
_RANGE = re.compile(r"bytes=0-([0-9]{1,18})")
_STATUS_LIMIT = 10.0  # seconds


@implementer(IObjectUpload)
class GcsUpload:
    """The session of a resumable upload; what was not acknowledged is sent again."""

    def __init__(self, ask: Callable[..., Awaitable[HttpAnswer]], url: str) -> None:
        """
        :param ask: see :meth:`nixery.storage.objects.gcs.GcsStore.ask`.
        :param url: the session's, a secret.
        """
        self._ask = ask
        self._url = url
        self._start = 0  # of the part
        self._held = 0  # bytes that the service has acknowledged
        self._unsure = False

    async def send(self, part: memoryview, last: bool, limit: float) -> StoredObject | None:
        end, before, stored = self._start + len(part), self._held, None
        total = str(end) if last else "*"
        try:
            if self._unsure:
                stored = await self._put(memoryview(b""), end, total, min(limit, _STATUS_LIMIT))
            self._unsure = True
            while stored is None and (last or self._held < end):
                known = self._held
                stored = await self._put(part[known - self._start :], end, total, limit)
                if stored is None and self._held == known:
                    raise PassingFault("the upload makes no progress")
        except PassingFault as fault:
            raise PassingFault(str(fault), fault.retry_after, self._held > before) from fault
        if stored is not None and not last:
            raise Refused("the service took a part for the whole")
        self._start, self._unsure = end, False
        return stored

    async def cancel(self, limit: float) -> None:
        with contextlib.suppress(PassingFault, Refused, StorageFull):
            await self._ask("DELETE", self._url, limit, with_token=False)

    async def _put(
        self, data: memoryview, end: int, total: str, limit: float
    ) -> StoredObject | None:
        """Send some bytes, or none to ask what the service has.

        :param end: of the part that they are of.
        :return: the object, if it is whole.
        """
        part = f"{self._held}-{self._held + len(data) - 1}" if data else "*"
        answer = await self._ask(
            "PUT",
            self._url,
            limit,
            (200, 201, _INCOMPLETE, *_LOST),
            {"Content-Range": f"bytes {part}/{total}"},
            data,
            with_token=False,
        )
        if answer.status in _LOST:
            raise Refused(f"the upload was lost on the way, {reason_of(answer)}")
        if answer.status != _INCOMPLETE:
            return object_of(answer)
        match = _RANGE.fullmatch(answer.header("Range"))
        self._held = int(match[1]) + 1 if match else 0
        if not self._start <= self._held <= end:
            raise Refused("the service has lost what it had acknowledged")
        return None
