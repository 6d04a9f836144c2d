"""The buckets that tests of what is no matter of one service run on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(params=["gcs", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A bucket of each service."""
    # What imports the reactor is imported late: only after the right one is installed.
    from tests.storage.backend import run
    from tests.storage.gcs_place import gcs_place
    from tests.storage.s3_place import s3_place

    make: Any = {"gcs": gcs_place, "s3": s3_place}[request.param]
    context = make(tmp_path, monkeypatch.setenv)
    yield run(context.__aenter__())
    run(context.__aexit__(None, None, None))
