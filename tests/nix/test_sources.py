"""Sources in the store, with programs in Nix's place."""

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from nixery.model.request_errors import UnknownTag
from nixery.model.service_errors import SourceUnavailable
from nixery.model.source import (
    Commit,
    Flake,
    FolderContents,
    GitRepository,
    LocalFolder,
    LockedFlake,
    PinnedSource,
)
from nixery.nix import sources
from nixery.nix.commands import Commands
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.sources import Sources
from tests.repository import Repository

pytestmark = pytest.mark.program

reactor: Any = _reactor

# A store in a folder: --add copies, --realise makes a link, and all calls are counted.
NIX_STORE = """#!/bin/sh
echo "$@" >> '{folder}/calls'
case "$*" in
*--add-root*) while [ "$1" != --add-root ]; do shift; done
    ln -s "$5" "$2"; echo "$5" ;;
*) for path; do :; done
    name=/nix/store/$(cat "$path"/* | sha256sum | cut -c1-32)-source
    mkdir -p '{folder}/store/nix/store'; cp -r "$path" "{folder}/store$name"; echo "$name" ;;
esac
"""


@attrs.frozen
class Machine:
    folder: Path
    repository: Repository

    def sources(self) -> Sources:
        """As after a start."""
        environ = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": "/nonexistent"}
        processes = Processes(reactor, reactor, environ)
        commands = Commands(reactor, processes, str(self.folder / "store"))
        git = Git(reactor, processes, str(self.folder / "git"))
        return Sources(reactor, commands, git, str(self.folder / "sources"))

    def pinned(self, commit: str) -> PinnedSource:
        url = self.repository.url
        return PinnedSource(GitRepository(url), Commit(url, commit))

    @property
    def added(self) -> int:
        calls = (self.folder / "calls").read_text().splitlines()
        return sum("--add " in call for call in calls)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    program = tmp_path / "nix-store"
    program.write_text(NIX_STORE.format(folder=tmp_path))
    program.chmod(0o755)
    return Machine(tmp_path, Repository(tmp_path / "repository"))


@pytest_twisted.ensureDeferred
async def test_a_commit_is_fetched_once(machine: Machine) -> None:
    """A commit is added to the store once, however many ask at once, later, or after a restart."""
    pinned = machine.pinned(machine.repository.commit("one"))
    ours = machine.sources()
    both = [Deferred.fromCoroutine(ours.request(pinned)) for _ in range(3)]
    requests = [await each for each in both]
    requests.append(await ours.request(pinned))
    machine.repository.folder.rename(machine.folder / "away")
    requests.append(await machine.sources().request(pinned))
    path = requests[0]["path"]
    assert requests == [{"type": "path", "path": path}] * 5
    assert Path(path, "default.nix").read_text() == "one"
    assert machine.added == 1


@pytest_twisted.ensureDeferred
async def test_a_store_that_lost_it(machine: Machine) -> None:
    """A source that is gone from the store is fetched again."""
    pinned = machine.pinned(machine.repository.commit("one"))
    ours = machine.sources()
    path = (await ours.request(pinned))["path"]
    Path(path).rename(machine.folder / "lost")
    assert (await ours.request(pinned))["path"] == path
    assert machine.added == 2


@pytest_twisted.ensureDeferred
async def test_recent_ones_are_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last are kept from the garbage collector, and no others."""
    monkeypatch.setattr(sources, "KEPT", 2)
    ours = machine.sources()
    pins = [machine.pinned(machine.repository.commit(text)) for text in ("one", "two", "three")]
    paths = [(await ours.request(pinned))["path"] for pinned in pins[:2]]
    await ours.request(pins[0])
    paths.append((await ours.request(pins[2]))["path"])
    links = [os.readlink(link) for link in (machine.folder / "sources").glob("*/*")]
    store = str(machine.folder / "store")
    assert sorted(store + link for link in links) == sorted([paths[0], paths[2]])


@pytest_twisted.ensureDeferred
async def test_unknown_commits_and_remotes(machine: Machine) -> None:
    """A failed fetch says why, and leaves nothing that could be taken for the source."""
    machine.repository.commit("one")
    with pytest.raises(UnknownTag):
        await machine.sources().request(machine.pinned("0" * 40))
    url = f"file://user:secret@{machine.folder}/none"
    with pytest.raises(SourceUnavailable) as caught:
        await machine.sources().request(PinnedSource(GitRepository(url), Commit(url, "0" * 40)))
    assert "secret" not in str(caught.value)
    assert not (machine.folder / "sources").exists()


@pytest_twisted.ensureDeferred
async def test_a_store_that_fails(machine: Machine) -> None:
    """A store that can't take a source is said to be at fault; later it is tried again."""
    pinned = machine.pinned(machine.repository.commit("one"))
    program = machine.folder / "nix-store"
    works = program.read_text()
    program.write_text("#!/bin/sh\necho no room >&2; exit 1\n")
    with pytest.raises(SourceUnavailable, match="no room"):
        await machine.sources().request(pinned)
    assert list((machine.folder / "git" / "tmp").iterdir()) == []
    program.write_text(works)
    assert (await machine.sources().request(pinned))["type"] == "path"


@pytest_twisted.ensureDeferred
async def test_folders_stay_where_they_are(machine: Machine) -> None:
    """A folder is read in place, and nothing is fetched."""
    pinned = PinnedSource(LocalFolder("/some/set"), FolderContents("/some/set", "1"))
    assert await machine.sources().request(pinned) == {"type": "path", "path": "/some/set"}


@pytest_twisted.ensureDeferred
async def test_flakes(machine: Machine) -> None:
    """A flake and its inputs are fetched once, and kept; Nix gets its locked reference."""
    program = machine.folder / "nix"
    document = '{"path": "/nix/store/x", "inputs": {"y": {"path": "/nix/store/y", "inputs": {}}}}'
    program.write_text(f"#!/bin/sh\necho \"$@\" >> '{machine.folder}/asked'\necho '{document}'\n")
    program.chmod(0o755)
    for path in ("x", "y"):
        (machine.folder / "store" / "nix" / "store" / path).mkdir(parents=True)
    locked = {"type": "tarball", "url": "https://example.com/y.tar.gz"}
    lock = {"root": "root", "nodes": {"root": {}, "y": {"locked": locked}}}
    flake = machine.folder / "store" / "nix" / "store" / "x"
    (flake / "flake.lock").write_text(json.dumps(lock))
    pinned = PinnedSource(Flake("r"), LockedFlake("r?rev=1", "1"))
    ours = machine.sources()
    for _ in range(2):
        assert await ours.request(pinned) == {
            "type": "flake",
            "reference": "r?rev=1",
            "origins": ["https://example.com/", "tarball+https://example.com/"],
        }
    (asked,) = (machine.folder / "asked").read_text().splitlines()
    assert asked.endswith("-- r?rev=1")
    links = [os.readlink(link) for link in (machine.folder / "sources").glob("*/*")]
    assert sorted(links) == ["/nix/store/x", "/nix/store/y"]
