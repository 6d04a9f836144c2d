# mypy: disable-error-code="import-untyped,untyped-decorator"
"""A server for each test."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_twisted

if TYPE_CHECKING:
    from tests.gcs.asking import Asker
    from tests.gcs.server import GcsServer

# What imports the reactor is imported late: only after this module is the right one installed.


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator["GcsServer"]:
    from tests.gcs.server import serving_gcs

    async with serving_gcs() as server:
        yield server


@pytest.fixture
def asker(server: "GcsServer") -> "Asker":
    from tests.gcs.asking import Asker

    return Asker(server)
