"""Files that are there whole or not at all."""

import os
from pathlib import Path

import pytest

from nixery.whole_file import put_in_place, whole_file


def test_written(tmp_path: Path) -> None:
    """A file is in its place when the block ends, with its permissions; its folder is made if the
    file is written elsewhere."""
    path = tmp_path / "folder" / "file"
    with whole_file(str(path), beside=str(tmp_path / "beside")) as file:
        file.write(b"older")
    for content in (b"old", b"new"):
        with whole_file(str(path), mode=0o755) as file:
            file.write(content)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o755
    assert os.listdir(path.parent) == ["file"]


def test_umask(tmp_path: Path) -> None:
    """The umask keeps a file from others, unless its permissions are given."""
    before = os.umask(0o077)
    try:
        for name, mode in (("private", None), ("public", 0o644)):
            with whole_file(str(tmp_path / name), mode=mode):
                pass
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"private": 0o600, "public": 0o644}


def test_nothing_shows_before_the_end(tmp_path: Path) -> None:
    """While a file is written, the older one is there; if that fails, it stays, and nothing is
    left of the attempt."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with whole_file(str(path)) as file:
            file.write(b"half of it")
            file.flush()
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_left_by_another(tmp_path: Path) -> None:
    """What a writer left that was killed is written over."""
    (tmp_path / "file.new").write_bytes(b"left, and longer than the file")
    with whole_file(str(tmp_path / "file")) as file:
        file.write(b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_in_the_place(tmp_path: Path) -> None:
    """A folder in the place is an error, and moves aside where a path for that is given."""
    path, beside = tmp_path / "file", tmp_path / "beside"
    (path / "with").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), whole_file(str(path)) as file:
        file.write(b"content")
    assert os.listdir(tmp_path) == ["file"]
    beside.write_bytes(b"content")
    put_in_place(str(beside), str(path), str(tmp_path / "aside"))
    assert path.read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]
