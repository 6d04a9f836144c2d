"""The walk through store paths: odd files, and files that change meanwhile."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nixery.packing.tar import pack
from nixery.packing.tar_stream import PackError
from tests.packing.conftest import Stream, names_in, pack_one, read_stream


@pytest.mark.parametrize(
    ("mode", "packed"),
    [(0o444, 0o444), (0o555, 0o555), (0o6755, 0o555), (0o1644, 0o444), (0, 0o444), (0o100, 0o555)],
)
def test_modes_are_those_of_nix(tmp_path: Path, mode: int, packed: int) -> None:
    """Of a file's mode only its owner's right to execute counts."""
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(mode)
    assert read_stream(pack_one(tmp_path / "file"))[b"nix/store/abc-x"][1] == packed


def test_a_folder_that_is_writable_for_a_moment(store_path: Path) -> None:
    """The folder's mode, which ``nix-store --optimise`` changes meanwhile, is not looked at."""
    before = pack_one(store_path)
    (store_path / "bin").chmod(0o755)
    assert pack_one(store_path) == before


def test_hard_links_are_files(tmp_path: Path) -> None:
    """Whether two files share their blocks on this machine is not in the stream."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a").write_text("content")
    os.link(tmp_path / "x/a", tmp_path / "x/b")
    tree = read_stream(pack_one(tmp_path / "x"))
    assert tree[b"nix/store/abc-x/a"] == tree[b"nix/store/abc-x/b"] == ("file", 0o444, b"content")


def test_sparse_files_are_whole(tmp_path: Path) -> None:
    """The holes of a file are zeros in the stream."""
    with open(tmp_path / "file", "wb") as file:
        file.truncate(100_000)
        file.seek(50_000)
        file.write(b"x")
    content = read_stream(pack_one(tmp_path / "file"))[b"nix/store/abc-x"][2]
    assert content == bytes(50_000) + b"x" + bytes(49_999)


def test_folders_deeper_than_any_path(tmp_path: Path) -> None:
    """The depth of folders is bounded neither by recursion nor by the length of a path."""
    depth, step = 300, "d" * 50
    (tmp_path / "x").mkdir()
    folder = os.open(tmp_path / "x", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(step, dir_fd=folder)
        inner = os.open(step, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    deepest = max(names_in(pack_one(tmp_path / "x")), key=len)
    assert deepest == b"nix/store/abc-x/" + (step.encode() + b"/") * depth


def _fault(physical: Path, on_write: Callable[[bytes], object] = lambda data: None) -> PackError:
    with pytest.raises(PackError) as caught:
        pack([("/nix/store/abc-x", str(physical))], (), Stream(on_write=on_write))
    return caught.value


def _once(begin: bytes, act: Callable[[], object]) -> Callable[[bytes], object]:
    """Act when the header of the file of that name is written."""
    return lambda data: act() if data.startswith(begin + b"\0") else None


def test_sockets_and_pipes_are_refused(tmp_path: Path) -> None:
    """What no layer can hold is named."""
    os.mkfifo(tmp_path / "pipe")
    error = _fault(tmp_path)
    assert (error.kind, error.path) == ("unsupported", b"/nix/store/abc-x/pipe")
    assert "named pipe" in error.message
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert "a socket" in _fault(tmp_path).message


def test_devices_are_refused() -> None:
    """A device is not even opened."""
    error = _fault(Path("/dev/null"))
    assert (error.kind, error.path) == ("unsupported", b"/nix/store/abc-x")
    assert "device" in error.message


def test_a_missing_path(tmp_path: Path) -> None:
    """A store path that is not there is named."""
    error = _fault(tmp_path / "x")
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x")


def test_what_can_not_beread_stream(tmp_path: Path) -> None:
    """What the system refuses is told in its words."""
    (tmp_path / "loop").symlink_to("loop")
    error = _fault(tmp_path / "loop" / "x")
    assert (error.kind, error.path) == ("unreadable", b"/nix/store/abc-x")
    assert "symbolic links" in error.message


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda file: file.write_bytes(bytes(6000)),
    "shrinks": lambda file: os.truncate(file, 10),
    "is emptied": lambda file: os.truncate(file, 0),
    "is rewritten": lambda file: file.write_bytes(bytes(5000)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes(tmp_path: Path, change: str) -> None:
    """A file that is another one after it was read fails the layer, by its name."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000)
    os.utime(file, (1, 1))
    error = _fault(tmp_path, _once(b"nix/store/abc-x/file", lambda: CHANGES[change](file)))
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x/file")


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    """A file that was listed and is gone when its turn comes fails the layer, by its name."""
    for name in "ab":
        (tmp_path / name).touch()
    error = _fault(tmp_path, _once(b"nix/store/abc-x/a", (tmp_path / "b").unlink))
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x/b")


def test_a_file_that_becomes_a_folder(tmp_path: Path) -> None:
    """What is of another kind than when it was listed fails the layer, by its name."""
    for name in "ab":
        (tmp_path / name).touch()

    def replace() -> None:
        (tmp_path / "b").unlink()
        (tmp_path / "b").mkdir()

    error = _fault(tmp_path, _once(b"nix/store/abc-x/a", replace))
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x/b")


@pytest.mark.parametrize("act", ["add", "remove"])
def test_a_folder_that_changes(tmp_path: Path, act: str) -> None:
    """A folder whose listing is no longer true when it is packed fails the layer, by its name."""
    for name in "ab":
        (tmp_path / name).touch()

    def change() -> None:
        (tmp_path / "c").touch() if act == "add" else (tmp_path / "a").unlink()

    os.utime(tmp_path, (1, 1))
    error = _fault(tmp_path, _once(b"nix/store/abc-x/b", change))
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x")


def test_a_folder_that_changed_before_its_turn(tmp_path: Path) -> None:
    """What is half deleted when the walk comes to it fails the layer, though nothing is missed."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a").touch()
    (tmp_path / "b" / "deleted").touch()

    def delete() -> None:
        time.sleep(0.02)  # the clock of file times is coarse
        (tmp_path / "b" / "deleted").unlink()

    error = _fault(tmp_path, _once(b"nix/store/abc-x/a", delete))
    assert (error.kind, error.path) == ("changed", b"/nix/store/abc-x/b")


def test_times_to_come(tmp_path: Path) -> None:
    """A time in the future is no sign of a change."""
    (tmp_path / "file").touch()
    os.utime(tmp_path / "file", (2**33, 2**33))
    assert b"nix/store/abc-x" in read_stream(pack_one(tmp_path / "file"))


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A layer that fails in the depth of folders leaves no file or folder open."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    os.mkfifo(tmp_path / "a/b/c/pipe")
    before = os.listdir("/proc/self/fd")
    _fault(tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_names_that_delete(tmp_path: Path) -> None:
    """A name that clients take for a deletion is refused with its path."""
    (tmp_path / ".wh.bin").touch()
    with pytest.raises(PackError) as caught:
        pack_one(tmp_path)
    assert caught.value.path == b"/nix/store/abc-x/.wh.bin"
    assert caught.value.kind == "unsupported"
