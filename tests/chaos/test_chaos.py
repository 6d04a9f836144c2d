"""Pulls go on while everything breaks; afterwards everything is as it should be.

``NIXERY_CHAOS_SECONDS`` says for how long (60), first with one process that answers and then with
two, and ``NIXERY_CHAOS_SEED`` which faults happen: the same seed, the same schedule.
"""

import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from tests.chaos.clients import Client, attempt, keep_pulling
from tests.chaos.faults import Faults
from tests.chaos.images import IMAGES, MovingSource
from tests.chaos.leftovers import Usage, files_left, processes_of
from tests.chaos.machine import Machine, small_disk
from tests.chaos.numbers import Numbers
from tests.chaos.proxy import CuttingProxy, cutting_proxy
from tests.chaos.schedule import draw
from tests.e2e.packages import PackageSet, make_package_set
from tests.waiting import HUNG, TEST_LIMIT, within

pytestmark = [pytest.mark.real_nix, pytest.mark.undisturbed]

CLIENTS = 50
SECONDS = float(os.environ.get("NIXERY_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("NIXERY_CHAOS_SEED", "20260601"))
_WARMING = 10  # images that each client pulls before anything breaks


@attrs.frozen
class Stage:
    """All parts of a run."""

    mark: str
    numbers: Numbers
    machine: Machine
    source: MovingSource
    proxy: CuttingProxy

    def client(self, port: int | None = None) -> Client:
        return Client(port or self.machine.port, self.numbers, self.source.contents)


@pytest.fixture(params=["1", "2"], ids="workers-{}".format)
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A daemon on a small disk, with a git repository as its source, behind a proxy that cuts."""
    packages = make_package_set()
    mark = uuid.uuid4().hex
    numbers = Numbers()
    source = MovingSource(tmp_path / "source", packages.folder, mark)
    with ExitStack() as stack:
        stack.enter_context(small_disk(tmp_path / "disk"))
        machine = Machine(tmp_path, _environ(packages, source, mark, request.param), numbers)
        proxy = stack.enter_context(cutting_proxy(machine.port))
        machine.start()
        try:
            yield Stage(mark, numbers, machine, source, proxy)
        finally:
            machine.stop()


def _environ(packages: PackageSet, source: MovingSource, mark: str, workers: str) -> dict[str, str]:
    return {
        **packages.environ,
        "NIXERY_PKGS_PATH": "",
        "NIXERY_PKGS_REPO": source.url,
        "NIXERY_PLATFORMS": "linux/amd64,linux/arm64",
        "NIXERY_REVISION_TTL": "2",
        "NIXERY_HOLD": "5",
        "NIXERY_FAILURE_TTL": "1",
        "NIXERY_DRAIN": "3",
        "NIXERY_HISTORY_SIZE": "20",
        "NIXERY_STORAGE_MAX": "400M",
        "NIXERY_WORKERS": workers,
        "CHAOS_MARK": mark,
    }


@pytest.mark.timeout(SECONDS + TEST_LIMIT)
def test_pulls_while_everything_breaks(stage: Stage) -> None:
    """Every answered pull has the right bytes whatever breaks; when nothing breaks any more, all
    images can be pulled, and nothing is left behind."""
    numbers, machine = stage.numbers, stage.machine
    print(f"\nNIXERY_CHAOS_SEED={SEED} NIXERY_CHAOS_SECONDS={SECONDS:g}")
    try:
        _warm_up(stage)
        before = Usage.of(machine.process)
        _break_everything(stage)
        _pull_all(stage)
        _at_rest(stage, before)
        machine.stop()
        _nothing_left(stage)
    finally:
        print(numbers.report())
    assert not numbers.violations


def _warm_up(stage: Stage) -> None:
    """Pull everything, and then as many at once as there will be."""
    _pull_all(stage)
    with ThreadPoolExecutor(CLIENTS) as clients:
        for outcome in clients.map(lambda n: _pull_some(stage, n), range(CLIENTS)):
            stage.numbers.pulled(outcome)


def _pull_some(stage: Stage, number: int) -> str:
    """Pull some images, each client others."""
    outcomes = [
        attempt(stage.client(), image, "whole")
        for image in (IMAGES * 2)[number % len(IMAGES) :][:_WARMING]
    ]
    return f"whole, {_WARMING} in a warm-up" if set(outcomes) == {"whole"} else "not in a warm-up"


def _break_everything(stage: Stage) -> None:
    over = threading.Event()
    faults = Faults(stage.machine, stage.source, stage.proxy, stage.numbers)
    ports = (stage.machine.port, stage.proxy.port)
    clients = [
        threading.Thread(
            target=keep_pulling, args=(stage.client(ports[n % 2]), f"{SEED} {n}", over), daemon=True
        )
        for n in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        faults.happen(draw(SEED, SECONDS))
    finally:
        over.set()
    for client in clients:
        client.join()
    faults.end()


def _pull_all(stage: Stage) -> None:
    """Pull every image whole, twice."""
    for image in IMAGES:
        digests = {_pull_until_whole(stage, image) for _ in range(2)}
        if len(digests) != 1:
            stage.numbers.violated(f"{image} has two digests: {digests}")


def _pull_until_whole(stage: Stage, image: str) -> str:
    """Pull an image, again where it is refused: what was damaged is noticed by asking for it."""
    outcomes: list[str] = []

    def pulled() -> bool:
        outcomes.append(attempt(stage.client(), image, "whole"))
        return outcomes[-1] == "whole"

    if not within(HUNG, pulled):
        stage.numbers.violated(f"{image} can't be pulled: {outcomes[-5:]}")
    return stage.client().pull(image)


def _at_rest(stage: Stage, before: Usage) -> None:
    process = stage.machine.process
    if not within(HUNG, lambda: Usage.of(process).is_near(before)):
        stage.numbers.violated(f"the daemon takes {Usage.of(process)}, after {before} before")
    print(f"the daemon took {before} before, and takes {Usage.of(process)}")


def _nothing_left(stage: Stage) -> None:
    if not within(HUNG, lambda: not processes_of(stage.mark)):
        stage.numbers.violated(f"processes are left: {processes_of(stage.mark)}")
    if left := files_left(stage.machine):
        stage.numbers.violated(f"files are left: {left}")
