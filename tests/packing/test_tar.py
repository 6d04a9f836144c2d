"""The tar stream of store paths: what others read from it equals what is on the disk."""

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixery.packing.tar import Entry, pack
from nixery.packing.tar_stream import PackError
from tests.packing.conftest import Stream, Tree, names_in, pack_one, read_stream, read_tree

NAMES = (
    st.binary(min_size=1, max_size=130)
    .map(lambda raw: raw.replace(b"/", b"-").replace(b"\0", b"0"))
    .filter(lambda name: name not in (b".", b".."))
)
LEAVES = st.one_of(
    st.tuples(st.sampled_from([0o444, 0o555]), st.binary(max_size=1500)),
    st.binary(min_size=1, max_size=200).map(lambda raw: raw.replace(b"\0", b"0")),
)
TREES = st.dictionaries(
    NAMES,
    st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12),
    max_size=5,
)


def _plant(at: bytes, tree: object) -> None:
    if isinstance(tree, dict):
        os.mkdir(at)
        for name, inner in tree.items():
            _plant(at + b"/" + name, inner)
        os.chmod(at, 0o555)
    elif isinstance(tree, bytes):
        os.symlink(tree, at)
    elif isinstance(tree, tuple):
        with open(at, "wb") as file:
            file.write(tree[1])
        os.chmod(at, tree[0])


def _in_store(tree: Tree) -> Tree:
    parents: Tree = {b"nix": ("dir", 0o755, b""), b"nix/store": ("dir", 0o755, b"")}
    top: Tree = {b"nix/store/abc-x": ("dir", 0o555, b"")}
    return {**parents, **top, **{b"nix/store/abc-x/" + name: tree[name] for name in tree}}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES, buffer=st.integers(min_value=1, max_value=2000))
def test_a_tree_is_read_back(tree: object, buffer: int) -> None:
    """Any tree of files, folders and links is in the stream as it is, sorted by names."""
    with tempfile.TemporaryDirectory() as folder:
        _plant(os.fsencode(folder) + b"/x", tree)
        stream = pack_one(folder + "/x", buffer=buffer)
        assert read_stream(stream) == _in_store(read_tree(os.fsencode(folder) + b"/x"))
    names = names_in(stream)
    assert names == sorted(names)
    assert len(stream) % 512 == 0


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(tree=TREES)
def test_gnu_tar_extracts_the_tree(tree: object) -> None:
    """GNU tar makes the same tree of the stream, without a word."""
    with tempfile.TemporaryDirectory() as folder:
        _plant(os.fsencode(folder) + b"/x", tree)
        os.mkdir(folder + "/out")
        run = subprocess.run(
            ["tar", "-xpf", "-", "-C", folder + "/out"],
            input=pack_one(folder + "/x"),
            capture_output=True,
            check=True,
        )
        assert run.stderr == b""
        extracted = read_tree(os.fsencode(folder) + b"/out")
        assert extracted == _in_store(read_tree(os.fsencode(folder) + b"/x"))


def test_the_order_of_paths_does_not_matter(store_path: Path) -> None:
    """Store paths are sorted, and each folder above them is there once."""
    pairs = [(f"/nix/store/{letter}-x", str(store_path)) for letter in "cab"]
    pairs.append(("/nix/store/a-x-file", str(store_path / "read me")))
    out, again = Stream(), Stream()
    pack(pairs, (), out)
    pack(reversed(pairs), (), again)
    assert out.data == again.data
    names = names_in(bytes(out.data))
    assert names == sorted(set(names))
    assert names[:4] == [b"nix/", b"nix/store/", b"nix/store/a-x-file", b"nix/store/a-x/"]


@pytest.mark.parametrize(
    "path", ["nix/store/x", "/", "", "/nix//x", "/nix/../x", "/nix/./x", "/a\0"]
)
def test_paths_that_are_not_plain(path: str, store_path: Path) -> None:
    """A path in the image that could lead elsewhere is refused."""
    with pytest.raises(PackError, match="plain"):
        pack([(path, str(store_path))], (), Stream())


def test_paths_inside_each_other(store_path: Path) -> None:
    """A path inside another one is refused: they could contradict each other."""
    pairs = [("/nix/store/x", str(store_path)), ("/nix/store/x/y", str(store_path))]
    with pytest.raises(PackError, match="inside"):
        pack(pairs, (), Stream())


ROOT = [
    Entry("tmp", "dir", 0o1777),
    Entry("etc", "dir", 0o755),
    Entry("etc/passwd", "file", 0o644, b"root:x:0:0\n"),
    Entry("etc-", "file", 0o600),
    Entry("bin\udcff", "link", target="nix/store/\udcfe"),
]


def test_entries() -> None:
    """Made-up entries keep their modes, and the order in which they come does not matter."""
    out, again = Stream(), Stream()
    pack((), ROOT, out)
    pack((), reversed(ROOT), again)
    assert out.data == again.data
    assert read_stream(bytes(out.data)) == {
        b"bin\xff": ("link", 0o777, b"nix/store/\xfe"),
        b"etc": ("dir", 0o755, b""),
        b"etc-": ("file", 0o600, b""),
        b"etc/passwd": ("file", 0o644, b"root:x:0:0\n"),
        b"tmp": ("dir", 0o1777, b""),
    }
    names = names_in(bytes(out.data))
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry("etc", "file"), "twice"),
        (Entry("var/tmp", "dir"), "folder"),
        (Entry("etc-/x", "file"), "folder"),
        (Entry("/etc/x", "file"), "plain"),
        (Entry("etc/../x", "file"), "plain"),
    ],
)
def test_entries_that_make_no_sense(entry: Entry, reason: str) -> None:
    """Entries that contradict each other or lead elsewhere are refused."""
    with pytest.raises(PackError, match=reason):
        pack((), [*ROOT, entry], Stream())


@given(name=NAMES, content=st.binary(), target=NAMES)
def test_entries_as_json(name: bytes, content: bytes, target: bytes) -> None:
    """An entry survives its way through JSON, whatever bytes it holds."""
    entry = Entry(os.fsdecode(name), "file", 0o644, content, os.fsdecode(target))
    assert Entry.from_json(entry.to_json()) == entry


def test_owners_of_entries() -> None:
    """Files and folders that are made up may belong to a user; links have no owner."""
    out = Stream()
    entries = [Entry("a", "dir", owner=7), Entry("a/b", "file", owner=7), Entry("c", "link")]
    pack((), entries, out)
    with tarfile.open(fileobj=io.BytesIO(bytes(out.data))) as tar:
        owners = {member.name: (member.uid, member.gid) for member in tar}
    assert owners == {"a": (7, 7), "a/b": (7, 7), "c": (0, 0)}


def test_store_folders_among_entries(tmp_path: Path) -> None:
    """A folder above store paths is in the stream once, as an entry has it."""
    (tmp_path / "x").mkdir()
    out = Stream()
    entries = [Entry("nix", "dir", 0o755), Entry("nix/store", "dir", 0o1775)]
    pack([("/nix/store/abc-x", str(tmp_path / "x"))], entries, out)
    assert names_in(bytes(out.data)) == [b"nix/", b"nix/store/", b"nix/store/abc-x/"]
    assert read_stream(bytes(out.data))[b"nix/store"] == ("dir", 0o1775, b"")


def test_paths_and_entries_in_one_stream(tmp_path: Path) -> None:
    """Store paths and made-up entries stand in one stream in the order of their names."""
    (tmp_path / "x").mkdir()
    out = Stream()
    pack([("/nix/store/abc-x", str(tmp_path / "x"))], ROOT, out)
    names = names_in(bytes(out.data))
    assert names == sorted(names)
    assert {name.rstrip(b"/") for name in names} == {
        *(b"nix", b"nix/store", b"nix/store/abc-x"),
        *(entry.name.encode("utf-8", "surrogateescape") for entry in ROOT),
    }
