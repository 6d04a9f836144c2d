"""Packages from apt: which there are, and that what is kept of them is whole."""

import errno
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apt import Apt, NoSuchArchitecture, PackageFile
from programs import Ran, SetupError

from tests.waiting import HUNG

CONTENTS = {
    "all_1%3a2.0_all.deb": b"for every architecture" * 50_000,
    "tool_1+b1_amd64.deb": b"a tool",
}
UNREACHABLE = "W: Failed to fetch http://x/y  Temporary failure resolving 'packages.example'"


class Archive:
    """apt-get and apt-cache, with an archive behind them.

    :param served: is asked for the contents of a file whenever it is downloaded.
    :param updated: what an update prints to standard error.
    """

    def __init__(
        self, served: Callable[[str], bytes] = CONTENTS.__getitem__, updated: str = ""
    ) -> None:
        self._served = served
        self._updated = updated
        self.downloaded: list[str] = []

    def __call__(self, argv: list[str], tell: Callable[[str], None]) -> Ran:
        if argv[-1] == "update":
            return Ran("", self._updated)
        if "madison" in argv:
            return Ran("      tool | 1+b1 | http://x stable/main amd64 Packages\n", "")
        if "--print-uris" in argv:
            return Ran("".join(map(uri, CONTENTS)), "")
        cache = next(word for word in argv if word.startswith("Dir::Cache=")).partition("=")[2]
        for name, contents in CONTENTS.items():
            path = Path(cache) / "archives" / name
            # As apt does, which looks at nothing but the size.
            if not path.exists() or path.stat().st_size != len(contents):
                path.write_bytes(self._served(name))
                self.downloaded.append(name)
        tell("dlstatus:1:50.0000:Retrieving file 1 of 2\n")
        return Ran("", "")


def uri(name: str) -> str:
    contents = CONTENTS[name]
    return (
        f"'http://x/{name}' {name} {len(contents)} SHA256:{hashlib.sha256(contents).hexdigest()}\n"
    )


def refuse(words: str) -> Callable[..., Ran]:
    """An apt that fails with some words."""

    def program(argv: list[str], tell: Callable[[str], None]) -> Ran:
        raise SetupError(f"apt-get failed: {words}")

    return program


def apt(
    folder: Path, program: Callable[..., Ran], architecture: str = "amd64", free: int = 10**9
) -> Apt:
    made = Apt(folder / architecture, architecture, program, lambda folder: free)
    (made.folder / "cache" / "archives").mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def debs(tmp_path: Path) -> Path:
    (tmp_path / "debs").mkdir()
    return tmp_path / "debs"


def assert_whole(debs: Path, files: list[PackageFile]) -> None:
    assert sorted(path.name for path in debs.iterdir()) == sorted(file.name for file in files)
    assert all(file.is_whole(debs / file.name) for file in files)


def test_threads_that_download_the_same_packages(tmp_path: Path, debs: Path) -> None:
    """Architectures share packages, and download them at the same time: a hundred times over, all
    of them succeed and what is kept is whole."""
    with ThreadPoolExecutor(4) as threads:
        for turn in range(100):
            together = threading.Barrier(4)

            def serve(name: str, together: threading.Barrier = together) -> bytes:
                if name.endswith("_all.deb"):
                    together.wait(timeout=HUNG)
                return CONTENTS[name]

            # The archives of all have what is kept by then: nothing may be linked to itself.
            apts = [apt(tmp_path / str(turn), Archive(serve), f"arch{n}") for n in range(4)]
            done = list(threads.map(lambda each: each.download(["tool"], debs), apts))
            assert_whole(debs, done[0])
            assert all(not list(each.folder.glob("cache/archives/*.deb")) for each in apts)
            for path in debs.iterdir():
                path.unlink()


def test_names_are_ones_that_nix_can_use(tmp_path: Path, debs: Path) -> None:
    """An epoch's colon and other characters are not in names of store paths."""
    files = apt(tmp_path, Archive()).download(["tool"], debs)
    assert [file.name for file in files] == ["all_1.2.0_all.deb", "tool_1+b1_amd64.deb"]


def test_a_cut_download_is_downloaded_again(tmp_path: Path, debs: Path) -> None:
    """What is not as apt's lists describe it is not kept, but asked for once more."""
    answers = {name: [contents, contents[:-1]] for name, contents in CONTENTS.items()}
    archive = Archive(lambda name: answers[name].pop())
    assert_whole(debs, apt(tmp_path, archive).download(["tool"], debs))
    assert sorted(archive.downloaded) == sorted([*CONTENTS, *CONTENTS])


def test_a_server_that_sends_something_else(tmp_path: Path, debs: Path) -> None:
    """Files that are never what they should be are named, and not kept."""
    archive = Archive(lambda name: b"x" * len(CONTENTS[name]))
    with pytest.raises(SetupError, match="tool_1"):
        apt(tmp_path, archive).download(["tool"], debs)
    assert list(debs.iterdir()) == []


def test_what_is_whole_is_not_downloaded_again(tmp_path: Path, debs: Path) -> None:
    """Kept files serve for another time, unless they were damaged: also at the same size."""
    apt(tmp_path, Archive()).download(["tool"], debs)
    damaged = debs / "tool_1+b1_amd64.deb"
    damaged.write_bytes(b"A TOOL")
    archive = Archive()
    assert_whole(debs, apt(tmp_path, archive).download(["tool"], debs))
    assert archive.downloaded == ["tool_1+b1_amd64.deb"]


def test_what_was_stopped_goes_on(tmp_path: Path, debs: Path) -> None:
    """A damaged file that an earlier run left in apt's cache is not taken for a package."""
    stopped = apt(tmp_path, Archive())
    left = stopped.folder / "cache" / "archives" / "tool_1+b1_amd64.deb"
    left.write_bytes(b"A TOOL")
    assert_whole(debs, stopped.download(["tool"], debs))


def test_progress_is_told(tmp_path: Path, debs: Path) -> None:
    """The percentage that apt has downloaded is told."""
    told: list[str] = []
    apt(tmp_path, Archive()).download(["tool"], debs, told.append)
    assert told == ["downloading, 50 %"]


def test_packages_that_a_release_does_not_have(tmp_path: Path) -> None:
    """The others are made into a set without them."""
    assert apt(tmp_path, Archive()).update(["tool", "gone"]) == {"tool"}


def test_packages_that_can_not_be_seen_now(tmp_path: Path) -> None:
    """A server that can't be reached is no release without the package."""
    with pytest.raises(SetupError, match=r"packages\.example.*network"):
        apt(tmp_path, Archive(updated=UNREACHABLE)).update(["tool", "gone"])
    # Some other server, which has nothing that is wanted here.
    assert apt(tmp_path, Archive(updated=UNREACHABLE)).update(["tool"]) == {"tool"}


@pytest.mark.parametrize(
    "words",
    [
        UNREACHABLE,
        "E: Failed to fetch http://x/y  Could not connect to packages.example:80 (192.0.2.1).",
        "E: Failed to fetch http://x/y  Could not resolve 'packages.example'",
        "E: Failed to fetch http://x/y  Unable to connect to packages.example:http:",
    ],
)
def test_no_network_is_one_sentence(tmp_path: Path, words: str) -> None:
    """apt's many words about servers become one sentence that names the server."""
    with pytest.raises(
        SetupError, match=r"^apt can't reach its servers \(.*packages\.example'?\):"
    ):
        apt(tmp_path, refuse(f"E: 1 {words} E: 2 {words}")).update(["tool"])


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path, debs: Path) -> None:
    """No room is what the system calls it, whichever program was told so."""
    for words in ("E: Write error - write (28: No space left on device)", "enough free space in"):
        with pytest.raises(OSError, match="No space") as caught:
            apt(tmp_path, refuse(words)).download(["tool"], debs)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "program", [refuse("E: Failed to fetch http://x/y  404  Not Found"), Archive()]
)
def test_a_full_disk_is_told_from_a_server_that_lacks_something(
    tmp_path: Path, program: Callable[..., Ran]
) -> None:
    """A list that apt has no room for is "not found" to it."""
    with pytest.raises(OSError, match="No space"):
        apt(tmp_path, program, free=10**8).update(["gone"])


def test_an_architecture_that_is_not_there(tmp_path: Path) -> None:
    """Servers that have no packages for an architecture are told from those that don't answer."""
    with pytest.raises(NoSuchArchitecture):
        apt(tmp_path, refuse("E: Failed to fetch http://x/y  404  Not Found")).update(["tool"])
    with pytest.raises(NoSuchArchitecture):
        apt(tmp_path, Archive()).update(["gone"])
    with pytest.raises(SetupError, match="something else"):
        apt(tmp_path, refuse("something else")).update(["tool"])
