"""The headers, as Python's tarfile reads them."""

import io
import tarfile

import pytest

from nixery.packing.tar_stream import END, FILE, FOLDER, LINK, header, padding


def _read(stream: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(stream + END), encoding="utf-8") as archive:
        member = archive.next()
    assert member is not None
    return member


@pytest.mark.parametrize("length", [1, 99, 100, 101, 255, 511, 512, 513, 4000])
def test_names_of_any_length(length: int) -> None:
    """A name is read as it was written, be it in the header or in a record of its own."""
    name = (b"n\xff/" * length)[: length - 1] + b"e"
    member = _read(header(name, FILE, 0o444))
    assert member.name.encode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize("length", [1, 100, 101, 4000])
def test_targets_of_any_length(length: int) -> None:
    """A long target and a long name of one link do not get into each other's way."""
    target = b"\xe9" * length
    member = _read(header(b"n" * length, LINK, 0o777, 0, target))
    assert member.linkname.encode("utf-8", "surrogateescape") == target
    assert member.name == "n" * length
    assert member.issym()


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 10 * 2**30, 2**62])
def test_sizes(size: int) -> None:
    """A size is exact on either side of what eleven octal digits hold."""
    member = tarfile.TarInfo.frombuf(header(b"file", FILE, 0o444, size), "utf-8", "strict")
    assert member.size == size


def test_nothing_of_the_machine() -> None:
    """Time and owner are the same for every entry."""
    member = _read(header(b"folder/", FOLDER, 0o1777))
    assert (member.mtime, member.uid, member.gid) == (1, 0, 0)
    assert (member.uname, member.gname, member.mode) == ("", "", 0o1777)
    assert member.isdir()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_padding(size: int) -> None:
    """A body is filled up to whole blocks, and not beyond."""
    assert (size + len(padding(size))) % 512 == 0
    assert len(padding(size)) < 512
