"""Starting processes without delay while many files are open."""

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any, AnyStr

from twisted.internet.interfaces import IProcessProtocol, IProcessTransport, IReactorProcess
from twisted.internet.process import Process
from zope.interface import implementer

_OTHERS = 3
"""The first descriptor that is not standard input, output or error."""


@implementer(IReactorProcess)
class Starts:
    """Starts processes for a reactor; they inherit only the files that they are given.

    Twisted examines each open file, in case a child would inherit it, and with thousands of
    connections the reactor stands still meanwhile. Here all files are closed by ``exec`` (see
    :func:`nixery.descriptors.keep_to_ourselves`), so there is nothing to examine. Twisted's other
    way, by ``fork``, would be worse: the memory of this process would be copied page by page while
    both use it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def spawnProcess(
        self,
        processProtocol: IProcessProtocol,
        executable: bytes | str,
        args: Sequence[bytes | str] = (),
        env: Mapping[AnyStr, AnyStr] | None = None,
        path: bytes | str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: bool = False,
        childFDs: Mapping[int, int | str] | None = None,
    ) -> IProcessTransport:
        """Start a process, as reactors do; it can't have a terminal of its own."""
        assert not usePTY
        return _Process(  # type: ignore[no-untyped-call]
            self._reactor, executable, args, env, path, processProtocol, uid, gid, childFDs
        )


class _Process(Process):
    def _trySpawnInsteadOfFork(  # not public: with a Twisted without it, starts are slow again
        self, path: Any, uid: Any, gid: Any, executable: Any, args: Any, environment: Any, more: Any
    ) -> bool:
        files: Mapping[int, int] = more["fdmap"]
        usual = max(files) < _OTHERS <= min(files.values())
        if not usual or (path, uid, gid) != (None, None, None):
            return bool(
                super()._trySpawnInsteadOfFork(  # type: ignore[no-untyped-call]
                    path, uid, gid, executable, args, environment, more
                )
            )
        ignored = [each for each in signal.valid_signals() if _is_ignored(each)]
        self.pid = os.posix_spawnp(
            executable,
            args,
            os.environ if environment is None else environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in files.items()],
            setsigdef=ignored,
        )
        self.status = -1
        return True


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN
