"""A resumable upload: what was not acknowledged is sent again.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.storage.gcs.answer import Answer, unavailable
from nixery.storage.gcs.patience import Patience
from nixery.storage.gcs.requests import Requests, Unreached

_INCOMPLETE = 308
_LOST = (404, 410, 499)
_RANGE = re.compile(r"bytes=0-([0-9]{1,18})")


@attrs.frozen
class _Progress:
    """What the server has.

    :param size: bytes.
    :param document: the object's description, if it is whole.
    """

    size: int
    document: Mapping[str, Any] | None = None


class Session:
    """The session of one upload."""

    _log = Logger()

    def __init__(self, requests: Requests, name: str, url: str, patience: Patience) -> None:
        """
        :param name: the object's.
        :param url: the session's, a secret.
        """
        self._requests = requests
        self._what = f"uploading {name}"
        self._url = url
        self._patience = patience

    async def send(
        self, chunk: memoryview, offset: int, total: int | None = None
    ) -> Mapping[str, Any] | None:
        """Send the bytes that follow those which were sent.

        :param offset: of the chunk's first byte in the whole.
        :param total: bytes of the whole, if this chunk is its last.
        :return: the object's description after the last chunk.
        :raises StorageUnavailable: if they can't be stored; the session is of no use then.
        """
        end = offset + len(chunk)
        done, tried = offset, 0
        give_up = self._requests.reactor.seconds() + self._patience.total
        while True:
            progress, asked = await self._put(chunk[done - offset :], done, total)
            if progress is None:
                await self._requests.pause(self._patience.wait(tried + 1, asked))
                progress = await self._status(total)
            if progress.document is not None:
                if total is None:
                    raise unavailable(self._what, "the service took a part for the whole")
                return progress.document
            if not offset <= progress.size <= end:
                raise unavailable(self._what, "the service has lost what it had acknowledged")
            if progress.size == end and total is None:
                return None
            now = self._requests.reactor.seconds()
            if progress.size > done:
                done, tried, give_up = progress.size, 0, now + self._patience.total
            elif (tried := tried + 1) >= self._patience.tries or now > give_up:
                raise unavailable(self._what, "it makes no progress")

    async def cancel(self) -> None:
        """Have the service forget what was sent; never raises."""
        with contextlib.suppress(Unreached, NixeryError):
            await self._requests.once("DELETE", self._url, with_token=False)

    async def _put(
        self, data: memoryview, offset: int, total: int | None
    ) -> tuple[_Progress | None, float]:
        """Send some bytes once.

        :return: what the server has, nothing if that has to be asked for; and seconds that it
            wants to be left alone.
        """
        whole = "*" if total is None else total
        part = f"{offset}-{offset + len(data) - 1}" if data else "*"
        try:
            answer = await self._requests.once(
                "PUT",
                self._url,
                headers={"Content-Range": f"bytes {part}/{whole}"},
                body=(data,),
                limit=self._patience.limit,
                with_token=False,
            )
        except Unreached as unreached:
            self._warn(str(unreached))
            return None, 0
        if (progress := self._progress(answer)) is not None:
            return progress, 0
        self._warn(answer.reason)
        return None, answer.retry_after

    def _warn(self, reason: str) -> None:
        text = "{what}: {reason}; going on"
        self._requests.repeats.warn(self._log, reason, text, what=self._what, reason=reason)

    async def _status(self, total: int | None) -> _Progress:
        """Ask for what the server has."""
        whole = "*" if total is None else total
        answer = await self._requests.ask(
            self._what,
            "PUT",
            self._url,
            (200, 201, _INCOMPLETE, *_LOST),
            headers={"Content-Range": f"bytes */{whole}"},
            patience=attrs.evolve(self._patience, limit=self._requests.patience.limit),
            with_token=False,
        )
        progress = self._progress(answer)
        assert progress is not None
        return progress

    def _progress(self, answer: Answer) -> _Progress | None:
        """What an answer says of the upload; nothing if it was a fault that may pass."""
        if answer.status in (200, 201):
            return _Progress(int(answer.document.get("size", 0)), answer.document)
        if answer.status == _INCOMPLETE:
            match = _RANGE.fullmatch(answer.header("Range"))
            return _Progress(int(match[1]) + 1 if match else 0)
        if answer.status in _LOST:
            raise unavailable(self._what, f"the upload was lost on the way, {answer.reason}")
        self._requests.check(self._what, answer)
        return None
