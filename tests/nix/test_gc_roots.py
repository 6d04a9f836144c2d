"""Roots of images that were made."""

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor as _reactor

from nixery.model.service_errors import NixUnavailable
from tests.nix.kept_store import Store

reactor: Any = _reactor
DAY = 86400.0


@pytest_twisted.ensureDeferred
async def test_kept_and_dropped(tmp_path: Path) -> None:
    """Roots are kept for some days after they were needed last."""
    store = Store(tmp_path)
    await store.kept.keep(["/nix/store/b", "/nix/store/a"])
    await store.kept.keep(["/nix/store/c"])
    assert store.images() == [["/nix/store/a", "/nix/store/b"], ["/nix/store/c"]]
    store.time += 29 * DAY
    await store.kept.keep(["/nix/store/a", "/nix/store/b"])
    store.time += 2 * DAY
    assert await store.kept.expire() == 1
    assert store.images() == [["/nix/store/a", "/nix/store/b"]]


@pytest_twisted.ensureDeferred
async def test_a_store_that_was_deleted(tmp_path: Path) -> None:
    """Roots of a store that is no more are made anew with what is made anew: in the new store,
    Nix has not heard of them."""
    store = Store(tmp_path)
    await store.kept.keep(["/nix/store/a", "/nix/store/b"])
    await store.kept.keep(["/nix/store/c"])
    (tmp_path / "nix" / "store" / "b").unlink()
    assert await store.kept.expire() == 1
    assert store.images() == [["/nix/store/c"]]


@pytest_twisted.ensureDeferred
async def test_nothing_is_kept(tmp_path: Path) -> None:
    """With 0 days, nothing is kept."""
    store = Store(tmp_path, 0)
    await store.kept.keep(["/nix/store/a"])
    assert store.images() == []


@pytest_twisted.ensureDeferred
async def test_keeping_fails(tmp_path: Path) -> None:
    """That roots can't be kept is no reason for a build to fail; the next one tries again."""
    store = Store(tmp_path)
    store.commands.error = NixUnavailable("no")
    await store.kept.keep(["/nix/store/a"])
    store.commands.error = None
    await store.kept.keep(["/nix/store/a"])
    assert store.images() == [["/nix/store/a"]]
