"""A cache of a remote's answers, which serves stale ones while the remote can't be reached."""

import json
import math
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.coalesce import Coalescer
from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.reactor import IReactor, in_thread
from nixery.recent import Recent
from nixery.repeats import Repeats
from nixery.whole_file import whole_file

PAUSE = 2.0
"""Seconds between two questions for one name, however many want a new answer."""
PATIENCE = 5.0
"""Seconds that a remote is waited for where there is an older answer."""
_MOST = 1000


@attrs.frozen
class Remembered:
    """An answer.

    :param stale: the remote could not be asked whether it still holds.
    :param since: when the remote was asked, by :attr:`Memory.now`.
    """

    text: str
    stale: bool
    since: float = attrs.field(default=0.0, eq=False)


class Memory:
    """The last answers of a remote, by the names that were asked for. A file keeps them over a
    restart, after which they are stale.

    :ivar lifetime: seconds for which an answer is fresh.
    :ivar now: the clock of this, in seconds.
    """

    _log = Logger()

    def __init__(self, clock: IReactor, lifetime: float, stale_if_error: bool, path: str) -> None:
        """
        :param lifetime: seconds for which an answer is fresh.
        :param stale_if_error: whether an older answer is given while the remote can't be asked.
        :param path: of the file.
        """
        self.lifetime = lifetime
        self.now = clock.seconds
        self._clock = clock
        self._stale_if_error = stale_if_error
        self._path = path
        self._known: Recent[str, Remembered] = Recent(clock.seconds, _MOST)
        self._asking: Coalescer[str, Remembered] = Coalescer()
        self._saving: Deferred[None] | None = None
        self._repeats = Repeats(clock.seconds)
        for name, text in _read(path).items() if stale_if_error else ():
            self._known.put(name, Remembered(text, True, -math.inf), -math.inf)

    def fresh(self, name: str) -> Remembered | None:
        """The answer to a name, if it need not be asked for."""
        return self._known.get(name, self.lifetime)

    async def get(self, name: str, ask: Callable[[], Awaitable[str]]) -> Remembered:
        """The answer to a name, asked for if none is fresh.

        :raises UnknownTag: if the remote has no answer.
        :raises SourceUnavailable: if the remote can't be asked, and there is no older answer.
        """
        if (fresh := self.fresh(name)) is not None:
            return fresh
        known = self._known.get(name)
        answer = self._asking.join(name, lambda: self._ask(name, ask))
        if known is None or not self._stale_if_error:
            return await answer
        try:
            return await answer.addTimeout(PATIENCE, self._clock, _gave_up)
        except SourceUnavailable as error:
            text = "an older answer is served: {error}"
            self._repeats.warn(self._log, str(error), text, error=error)
            return self._put(name, Remembered(known.text, True, known.since))

    async def newer(self, name: str, since: float, ask: Callable[[], Awaitable[str]]) -> Remembered:
        """An answer to a name for which the remote was asked at some time or later.

        One question serves all who wait for it.

        :param since: by :attr:`now`.
        :raises UnknownTag: if the remote has no answer.
        :raises SourceUnavailable: if the remote can't be asked.
        """
        known = self._known.get(name)
        while known is None or known.stale or known.since < since:
            answer = await self._asking.join(name, lambda: self._ask(name, ask))
            if answer.since >= since:
                return answer
            known = self._known.get(name)
        return known

    async def stop(self) -> None:
        """Ask for nothing more, and wait until the file is written."""
        await self._asking.stop()
        if self._saving is not None:
            await self._saving

    async def _ask(self, name: str, ask: Callable[[], Awaitable[str]]) -> Remembered:
        before = self._known.get(name)
        if before is not None:
            pause = min(PAUSE, self.lifetime)
            early = before.since + pause - self.now()
            if early > 0:
                await deferLater(self._clock, min(early, pause))  # clocks may be set back
        since = self.now()
        try:
            text = await ask()
        except UnknownTag:
            if self._known.get(name) is not None:
                self._known.forget(name)
                self._save()
            raise
        answer = self._put(name, Remembered(text, False, since))
        if before is None or before.text != text:
            self._save()
        return answer

    def _put(self, name: str, answer: Remembered) -> Remembered:
        self._known.put(name, answer)
        return answer

    def _save(self) -> None:
        """Write the file; if it is being written, it is written once more after that."""
        if self._stale_if_error and self._saving is None:
            self._saving = Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        written: dict[str, str] | None = None
        while (texts := {name: known.text for name, known in self._known.items()}) != written:
            try:
                await in_thread(self._clock, _replace, self._path, texts)
            except OSError as error:
                self._log.error("{path} can't be written: {error}", path=self._path, error=error)
                break
            written = texts
        self._saving = None


def _gave_up(result: Remembered | Failure, seconds: float) -> Remembered | Failure:
    if isinstance(result, Failure) and result.check(CancelledError) is not None:
        raise SourceUnavailable("that was asked", f"no answer within {seconds:.0f} s")
    return result


def _read(path: str) -> dict[str, str]:
    with suppress(OSError, ValueError, RecursionError), open(path, encoding="utf-8") as file:
        texts = json.load(file)
        if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
            return texts
    return {}


def _replace(path: str, texts: dict[str, str]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with whole_file(path) as file:
        file.write(json.dumps(texts).encode("utf-8"))
