"""Answers of a remote that are kept for a while, and served old rather than not at all."""

import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.coalesce import Coalescer
from nixery.model.errors import SourceUnavailable, UnknownTag

PATIENCE = 5.0
"""Seconds that a remote is waited for where there is an older answer to give instead."""
_MOST = 1000


class IClock(IReactorThreads, IReactorTime):
    """What the answers' keeping needs of a reactor."""


@attrs.frozen
class Remembered:
    """An answer.

    :param stale: the remote could not be asked whether it still holds.
    """

    text: str
    stale: bool


@attrs.frozen
class _Known:
    text: str
    until: float
    stale: bool


class Memory:
    """The last answers of a remote by the names that were asked for; a file keeps them over a
    restart, when they are old at once."""

    _log = Logger()

    def __init__(self, clock: IClock, lifetime: float, stale_if_error: bool, path: str) -> None:
        """
        :param lifetime: seconds that an answer is kept without asking again.
        :param stale_if_error: whether an older answer is given while the remote can't be asked.
        :param path: of the file.
        """
        self._clock = clock
        self._lifetime = lifetime
        self._stale_if_error = stale_if_error
        self._path = path
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: Coalescer[str, str] = Coalescer()
        self._saving: Deferred[None] | None = None
        for name, text in _read(path).items() if stale_if_error else ():
            self._known[name] = _Known(text, 0.0, True)

    async def get(self, name: str, ask: Callable[[], Awaitable[str]]) -> Remembered:
        """The answer to a name, asked for if none is known that is young enough.

        :raises UnknownTag: if the remote says that there is none.
        :raises SourceUnavailable: if the remote can't be asked, and there is no older answer.
        """
        known = self._known.get(name)
        if known is not None and known.until > self._clock.seconds():
            return Remembered(known.text, known.stale)
        answer = self._asking.join(name, lambda: self._ask(name, ask))
        if known is None or not self._stale_if_error:
            return Remembered(await answer, False)
        try:
            return Remembered(await answer.addTimeout(PATIENCE, self._clock, _gave_up), False)
        except SourceUnavailable as error:
            self._log.warn("an older answer is served: {error}", error=error)
            self._put(name, known.text, stale=True)
            return Remembered(known.text, True)

    async def stop(self) -> None:
        """Ask for nothing more, and wait until the file is written."""
        await self._asking.stop()
        if self._saving is not None:
            await self._saving

    async def _ask(self, name: str, ask: Callable[[], Awaitable[str]]) -> str:
        before = self._known.get(name)
        try:
            text = await ask()
        except UnknownTag:
            if self._known.pop(name, None) is not None:
                self._save()
            raise
        self._put(name, text, stale=False)
        if before is None or before.text != text:
            self._save()
        return text

    def _put(self, name: str, text: str, stale: bool) -> None:
        self._known[name] = _Known(text, self._clock.seconds() + self._lifetime, stale)
        self._known.move_to_end(name)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def _save(self) -> None:
        """Write the file, if it isn't being written: then once more after that."""
        if not self._stale_if_error:
            return
        if self._saving is None:
            self._saving = Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        pool = self._clock.getThreadPool()
        written: dict[str, str] | None = None
        while (texts := {name: known.text for name, known in self._known.items()}) != written:
            try:
                await deferToThreadPool(self._clock, pool, _replace, self._path, texts)
            except OSError as error:
                self._log.error("{path} can't be written: {error}", path=self._path, error=error)
                break
            written = texts
        self._saving = None


def _gave_up(result: str | Failure, seconds: float) -> str | Failure:
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
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    beside = f"{path}.new"  # always the same: what a process has left that was killed is replaced
    try:
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(texts, file)
        os.replace(beside, path)
    except OSError:
        with suppress(OSError):
            os.unlink(beside)
        raise
