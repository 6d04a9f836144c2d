"""A storage that holds less than what is asked for."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Event

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix

PACKAGES = ("hello", "jq", "curl", "htop", "nano", "tree")
FAVOURITES = ("hello", "jq")


def pull(daemon: Daemon, name: str) -> int:
    """Pull an image whole; every blob of the manifest that was answered has to be right.

    :return: bytes of all its blobs.
    """
    answer = daemon.pull(name)
    assert answer.status == 200, answer
    manifest, size = answer.json(), 0
    for blob in [manifest["config"], *manifest["layers"]]:
        got = daemon.get(f"/v2/{name}/blobs/{blob['digest']}")
        assert got.status == 200, (name, got)
        assert f"sha256:{sha256(got.body).hexdigest()}" == blob["digest"]
        size += len(got.body)
    return size


def stored(daemon: Daemon) -> int:
    sizes = []
    for path in (daemon.storage / "layers").iterdir():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # dropped just now
            continue
    return sum(sizes)


def names(daemon: Daemon) -> list[str]:
    """Fifty images of packages that the set has."""
    known = [name for name in PACKAGES if daemon.pull(name).status == 200]
    made = [
        "/".join(some)
        for count in range(1, len(known) + 1)
        for some in itertools.combinations(known, count)
    ]
    assert len(made) >= 50
    return made[:50]


def test_fifty_images_and_room_for_ten(start_daemon: StartDaemon) -> None:
    """Fifty images go through a storage with room for some ten: all that are pulled are whole,
    those that are pulled all the time too, and the storage stays about as large as it may be."""
    measured = start_daemon(NIXERY_LAYER_BUDGET="2")
    fifty = names(measured)
    tenth = sum(pull(measured, name) for name in fifty) // 5
    measured.stop()

    state = measured.state.parent / "bounded"
    daemon = start_daemon(
        state=state,
        NIXERY_LAYER_BUDGET="2",
        NIXERY_STORAGE_MAX=str(tenth),
        NIXERY_STORAGE_GRACE="20",
    )
    done = Event()

    def again_and_again(name: str) -> int:
        count = 0
        while not done.is_set():
            pull(daemon, name)
            count += 1
        return count

    with ThreadPoolExecutor(4) as clients:
        favourites = [clients.submit(again_and_again, name) for name in FAVOURITES]
        try:
            for size in clients.map(lambda name: pull(daemon, name), fifty):
                assert size > 0
        finally:
            done.set()
        assert all(favourite.result() > 0 for favourite in favourites)
    wait_until(lambda: stored(daemon) <= tenth)
    # It says so when the folder is in order again, a moment after the last file went.
    wait_until(lambda: "dropped" in daemon.log)
    assert len(list((daemon.storage / "layers").iterdir())) < 150
    for name in (fifty[0], fifty[25], fifty[49]):
        assert pull(daemon, name)
