"""The way into the reactor's threads."""

import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from nixery.reactor import in_thread

reactor: Any = _reactor


@pytest_twisted.ensureDeferred
async def test_work_runs_in_a_thread() -> None:
    """Work runs in another thread than the reactor's, and its result and failure come back."""

    def work(number: int, *, more: int) -> tuple[int, int]:
        return number + more, threading.get_ident()

    total, thread = await in_thread(reactor, work, 1, more=2)
    assert total == 3
    assert thread != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await in_thread(reactor, lambda: 1 / 0)
