"""Whether the daemon can do its work: a check of each thing that it needs."""

from collections.abc import Awaitable, Callable, Mapping

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nixery.model.errors import NixeryError
from nixery.model.paths import hide_paths

LIMIT = 5.0
"""Seconds that a check may take."""
KEPT = 10.0
"""Seconds for which results are kept: probes may come as often as they like."""

Check = Callable[[], Awaitable[str]]
"""Checks one thing: returns a remark, which may be empty, and raises what is wrong."""


@attrs.frozen
class Condition:
    """The state of one thing.

    :param remark: what is wrong with it, or worth knowing, for operators.
    """

    name: str
    ok: bool
    remark: str = ""

    @property
    def told(self) -> str:
        """The remark without paths of this machine, for anybody."""
        return hide_paths(self.remark)


class Readiness:
    """Checks everything that requests need."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, checks: Mapping[str, Check]) -> None:
        """
        :param checks: by the names of what they check.
        """
        self.stopping = False
        """Whether the daemon accepts no more requests."""
        self._clock = clock
        self._checks = checks
        self._seen: list[Condition] = []
        self._since: float | None = None
        self._waiting: list[Deferred[list[Condition]]] | None = None

    def look(self) -> Deferred[list[Condition]]:
        """The state of everything, as of a moment ago; never fails."""
        if self._since is not None and self._clock.seconds() - self._since < KEPT:
            return succeed(self._with_end(self._seen))
        waiter: Deferred[list[Condition]] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
            return waiter
        self._waiting = [waiter]
        looks = [self._look_at(name, check) for name, check in self._checks.items()]
        DeferredList(looks).addCallback(self._told)
        return waiter

    def _told(self, results: list[tuple[bool, Condition]]) -> None:
        before = {condition.name: condition.ok for condition in self._seen}
        self._seen = [condition for _, condition in results]
        self._since = self._clock.seconds()
        for condition in self._seen if not self.stopping else ():
            if not condition.ok and before.get(condition.name, True):
                self._log.error("not ready: {name}: {remark}", **attrs.asdict(condition))
            elif condition.ok and not before.get(condition.name, True):
                self._log.info("ready again: {name}", name=condition.name)
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            if not each.called:
                each.callback(self._with_end(self._seen))

    def _with_end(self, seen: list[Condition]) -> list[Condition]:
        return (
            [*seen, Condition("stopping", False, "the daemon is stopping")]
            if self.stopping
            else seen
        )

    def _look_at(self, name: str, check: Check) -> Deferred[Condition]:
        async def look() -> str:
            return await check()

        def faulty(failure: Failure) -> Condition:
            error = failure.value
            if not isinstance(error, NixeryError | OSError | CancelledError):
                self._log.failure("while checking {name}", failure, name=name)
            late = isinstance(error, CancelledError)
            words = f"no answer within {LIMIT:g} s" if late else str(error) or type(error).__name__
            return Condition(name, False, words.split("\n")[0])

        looking = Deferred.fromCoroutine(look())
        # What can't be cancelled, such as a thread that hangs, is not waited for.
        own: Deferred[str] = Deferred(lambda _: looking.cancel())
        looking.addCallbacks(
            lambda remark: None if own.called else own.callback(remark),
            lambda failure: None if own.called else own.errback(failure),
        )
        own.addTimeout(LIMIT, self._clock, onTimeoutCancel=lambda result, _: result)
        return own.addCallbacks(lambda remark: Condition(name, True, remark), faulty)
