"""The limit of open files."""

import resource
import subprocess
import sys

import pytest

from nixery.descriptors import EACH, OTHERS, connections_within

SCRIPT = """
import resource, sys
from nixery.descriptors import make_room
from nixery.model.limits import HttpLimits
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
limits = make_room(HttpLimits(connections=int(sys.argv[3])))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], limits.connections)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "becomes", "connections"),
    [
        (256, 4000, 1000, 1000 * EACH + OTHERS, 1000),
        (4000, 4000, 1000, 4000, 1000),
        (256, 2012, 1000, 2012, 503),
        (100, 100, 1000, 100, 25),
    ],
    ids=["raised", "enough", "as far as it goes", "next to nothing"],
)
def test_limit(soft: int, hard: int, wanted: int, becomes: int, connections: int) -> None:
    """The soft limit becomes what is needed, or the hard one; connections fit below it."""
    command = [sys.executable, "-c", SCRIPT, *map(str, (soft, hard, wanted))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == [str(becomes), str(connections)]


def test_no_limit() -> None:
    """Where there is no limit, none is made up."""
    assert connections_within(resource.RLIM_INFINITY) is None
