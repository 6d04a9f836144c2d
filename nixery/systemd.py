"""systemd's protocols: inherited sockets, and notifications of the daemon's state."""

import os
import socket
from collections.abc import Mapping

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.repeats import Repeats

_FIRST_SOCKET = 3


def inherited_endpoint() -> str | None:
    """The endpoint string of the first socket that systemd passes to this process, if any.

    Twisted has read the variables that announce it, and removed them from the environment.
    https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    """
    try:
        serverFromString(None, "systemd:domain=INET:index=0")
    except IndexError:
        return None
    with socket.socket(fileno=os.dup(_FIRST_SOCKET)) as held:
        return f"systemd:domain={held.family.name.removeprefix('AF_')}:index=0"


class Notifier:
    """Notifies the service manager of the daemon's state; does nothing where there is none.

    https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, environ: Mapping[str, str]) -> None:
        self._repeats = Repeats(clock.seconds)
        self._address = environ.get("NOTIFY_SOCKET", "")
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(environ.get("WATCHDOG_USEC") or 0) / 1e6 if mine else 0.0
        self._beat = LoopingCall(self._tell, "WATCHDOG=1")
        self._beat.clock = clock

    def ready(self, status: str) -> None:
        """Requests are accepted from now on; the watchdog is fed as long as the reactor runs.

        :param status: in words for people.
        """
        self._tell(f"READY=1\nSTATUS={status}")
        if self._watchdog and self._address:
            self._beat.start(self._watchdog / 2)

    def tell_status(self, status: str) -> None:
        """The status has changed.

        :param status: in words for people.
        """
        self._tell(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        """No more requests are accepted. The watchdog is still fed."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    def stop(self) -> None:
        """Stop feeding the watchdog."""
        if self._beat.running:
            self._beat.stop()

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        # A name that begins with @ is in the kernel's abstract namespace.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(words.encode("utf-8"), address)
        except OSError as error:
            text = "{socket} can't be notified: {error}"
            self._repeats.warn(self._log, str(error), text, socket=self._address, error=error)
