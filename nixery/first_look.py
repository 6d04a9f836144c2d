"""The first checks of each start: whether Nix builds here, and what the package set offers."""

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from nixery.first_success import FirstSuccess
from nixery.model.example import USUAL, WANTED, example
from nixery.model.image import AMD64
from nixery.model.source import PinnedSource
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.offered import Offered
from nixery.nix.sources import Sources
from nixery.nix.trial import TrialBuild
from nixery.watching.readiness import Readiness

FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Seconds between two looks whether all is ready: twice as many each time."""


class FirstLook:
    """Whether Nix can build here, and whether the package set can be evaluated.

    :ivar trial: finds out the first; gives a remark.
    :ivar offered: finds out the second; gives those of :data:`WANTED` that the set has.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        commands: Commands,
        evaluator: Evaluator,
        sources: Sources,
        latest: Callable[[], Awaitable[PinnedSource]],
        system: str = AMD64,
    ) -> None:
        """
        :param latest: gives the package set as it is now.
        :param system: that packages are for.
        """
        looker = Offered(commands, evaluator, sources, system)

        async def look() -> list[str]:
            return await looker.among(await latest(), WANTED)

        self._reactor = reactor
        self._trial = FirstSuccess(reactor, TrialBuild(commands, evaluator).run)
        self._offered = FirstSuccess(reactor, look)
        self.trial, self.offered = self._trial.get, self._offered.get

    async def until(self, readiness: Readiness) -> str | None:
        """Wait until everything works. The readiness logs what does not; remarks for operators are
        logged here.

        :return: the name of an image to try, if the package set has the packages for one.
        """
        wait = FIRST_WAIT
        conditions = await readiness.look()
        while not all(each.ok for each in conditions):
            await deferLater(self._reactor, wait)
            wait = min(2 * wait, LONGEST_WAIT)
            conditions = await readiness.look()
        for each in conditions:
            if each.remark:
                self._log.warn("{name}: {remark}", name=each.name, remark=each.remark)
        return example(await self.offered())

    @property
    def example(self) -> str:
        """The name of an image that can be pulled, as far as that is known."""
        return example(self._offered.known or ()) or USUAL

    async def stop(self) -> None:
        """Give up what is not known yet."""
        await self._trial.stop()
        await self._offered.stop()
