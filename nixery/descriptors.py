"""The limit of open files, which is raised to what the connections need."""

import os
import resource
from contextlib import suppress

import attrs
from twisted.logger import Logger

from nixery.model.limits import HttpLimits

_log = Logger()

EACH = 3
"""Files per connection: its socket, the blob that is sent on it, and the socket of somebody who is
about to be refused, since as many may wait for that."""
OTHERS = 512
"""Files for everything else: pipes of children, files being written, package sources."""


def make_room(limits: HttpLimits) -> HttpLimits:
    """Raise the soft limit of open files to what is needed, as far as the hard one allows.

    No further: children inherit it, and some programs in builders close every descriptor up to
    the limit before they start.

    :return: the limits, with no more connections than there are files for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = limits.connections * EACH + OTHERS
    if _is_less(soft, needed):
        soft = needed if not _is_less(hard, needed) else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = connections_within(soft)
    if room is None or room >= limits.connections:
        return limits
    _log.warn(
        "there is room for {room} connections, not for {wanted}: "
        "this process may open {hard} files (ulimit -Hn)",
        room=room,
        wanted=limits.connections,
        hard=hard,
    )
    return attrs.evolve(limits, connections=room)


def keep_to_ourselves() -> None:
    """Keep children from inheriting files that are open now; those that Python opens are never
    inherited.

    Standard input, output and error are left alone: each child is given its own.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor that the folder was read by is closed
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def connections_within(files: int) -> int | None:
    """How many connections a limit of open files allows.

    :return: none if there is no limit.
    """
    if files == resource.RLIM_INFINITY:
        return None
    # However low it is, some are accepted; beyond that, newcomers are closed at once.
    return max(10, (files - OTHERS) // EACH, files // 4)


def _is_less(limit: int, needed: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < needed
