"""The popularity table: made from a package set, and used for grouping its layers."""

import json
import sys
from pathlib import Path

import pytest

from tests.e2e.clients import run
from tests.e2e.conftest import StartDaemon
from tests.e2e.packages import PackageSet

pytestmark = pytest.mark.real_nix

POPCOUNT = str(Path(sys.executable).with_name("nixery-popcount"))


def test_a_table_of_the_package_set(
    start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path
) -> None:
    """``nixery-popcount`` counts what is in the store, and the daemon groups by its table; a copy
    serves while the table can't be reached."""
    start_daemon().pull("shell/git")
    counted = run([POPCOUNT], 300, **package_set.environ)
    assert counted.code == 0, counted.output
    said, _, printed = counted.output.partition("{")
    # No evaluation survives these.
    assert "left out, since they can't be evaluated: abortEval, " in said
    table = json.loads("{" + printed)
    assert max(table, key=table.__getitem__).startswith("libc6-")
    file = tmp_path / "table.json"
    file.write_text(json.dumps(table))

    state = tmp_path / "grouped"
    settings = {"NIX_POPULARITY_URL": f"file://{file}", "NIXERY_LAYER_BUDGET": "12"}
    grouped = start_daemon(state=state, **settings).pull("shell/git")
    assert len(grouped.json()["layers"]) <= 12
    plain = start_daemon(state=tmp_path / "plain", NIXERY_LAYER_BUDGET="12").pull("shell/git")
    assert plain.body != grouped.body
    file.unlink()
    again = start_daemon(state=state, **settings)
    for blob in (state / "storage" / "manifests").iterdir():
        blob.unlink()
    assert again.pull("shell/git").body == grouped.body


@pytest.mark.parametrize("url", ["file:///no/such/table", "http://127.0.0.1:1/table"])
def test_a_table_that_cannot_be_read(start_daemon: StartDaemon, url: str) -> None:
    """A table that is neither there nor was there before stops the start, and that is said."""
    with pytest.raises(AssertionError, match="popularity table"):
        start_daemon(NIX_POPULARITY_URL=url)
