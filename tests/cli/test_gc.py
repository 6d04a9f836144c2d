"""``nixery gc``."""

import json

import pytest

from tests.cli.fake_api import FakeApi, Run


@pytest.mark.parametrize(
    ("done", "said"),
    [
        ({"dropped": 3, "size": 2_000_000, "blobs": 9}, "dropped 3 blobs; 9 are left, 2.0 MB\n"),
        ({"dropped": 0, "size": None, "blobs": None}, "dropped 0 blobs\n"),
    ],
)
def test_room_is_made(run: Run, api: FakeApi, done: dict[str, object], said: str) -> None:
    """What was dropped is told; a bucket does not count what is left."""
    api.answers["POST /api/gc"] = 200, done
    ran = run("gc")
    assert (ran.code, ran.out) == (0, said)
    assert json.loads(run("gc", "--json").out) == done
