"""The child process that packs, and what it reports."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nixery.packing.codecs import Codec, codec
from nixery.packing.compress import WrongBlock
from nixery.packing.tar import Entry
from nixery.packing.worker import MOST_REPORTS, answers, keep_report
from tests.packing.conftest import entries_file
from tests.waiting import HUNG

COMMAND = [sys.executable, "-m", "nixery.packing.worker"]
ROOT = str(Path(__file__).parents[2])


class Child:
    """A worker, as another process talks to it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )

    def tell(self, job: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        self.tell(job)
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def peak(self) -> int:
        """The most memory that it had resident at any time, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def shared() -> Iterator[Child]:
    """One child for many jobs, as in the daemon."""
    yield from _children()


@pytest.fixture
def child() -> Iterator[Child]:
    """A child that the test may end."""
    yield from _children()


def _children() -> Iterator[Child]:
    child = Child()
    with child.process:
        yield child
        child.process.kill()


def _job(sink: Path | str, *paths: Path, **more: Any) -> dict[str, Any]:
    pairs = [(f"/nix/store/{index}-x", str(path)) for index, path in enumerate(paths)]
    return {
        "id": 7,
        "sink": str(sink),
        "compression": "fast",
        "paths": pairs,
        "entries": None,
        **more,
    }


@pytest.fixture
def huge() -> Iterator[Path]:
    """A file that takes a while: of holes alone, so that it needs no room."""
    with tempfile.NamedTemporaryFile() as file:
        os.truncate(file.name, 1 << 36)
        yield Path(file.name)


def test_a_layer_is_packed(shared: Child, store_path: Path, tmp_path: Path) -> None:
    """The answer tells the digest and the size of what is in the sink."""
    said = shared.ask(_job(tmp_path / "sink", store_path))
    written = (tmp_path / "sink").read_bytes()
    assert said["id"] == 7
    assert said["digest"] == "sha256:" + hashlib.sha256(written).hexdigest()
    assert said["size"] == len(written)
    tar = subprocess.run(["gzip", "-dc"], input=written, capture_output=True, check=True).stdout
    assert said["diff_id"] == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert said["uncompressed"] == len(tar)


def test_entries_are_packed(shared: Child, tmp_path: Path) -> None:
    """Made-up entries reach the layer, and what was in the sink before is gone."""
    (tmp_path / "sink").write_bytes(bytes(10_000))
    entries = [Entry("etc", "dir", 0o755), Entry("etc/x", "file", 0o644, b"\xff")]
    job = _job(tmp_path / "sink", entries=entries_file(tmp_path, *entries))
    assert shared.ask(job)["size"] == (tmp_path / "sink").stat().st_size
    listed = subprocess.run(["tar", "-tzf", tmp_path / "sink"], capture_output=True, check=True)
    assert listed.stdout == b"etc/\netc/x\n"


@pytest.mark.parametrize("compression", ["fast", "small", "zstd"])
def test_the_number_of_threads_does_not_show(
    compression: str, shared: Child, tmp_path: Path
) -> None:
    """One thread or many, in this process or another: the same bytes."""
    big = tmp_path / "big"
    big.write_bytes(b"".join(b"%d\n" % number for number in range(700_000)))
    job = _job(tmp_path / "sink", big, compression=compression)
    made = [list(answers(job, threads)) for threads in (1, 2, 5)]
    assert made == [[shared.ask(job)]] * 3


def test_wrong_compression(store_path: Path, tmp_path: Path) -> None:
    """What compression makes wrong is counted in the answer and reported; the layer is right."""

    def find_codec(name: str) -> Codec:
        return codec(name)._replace(compress=lambda block: b"wrong")

    job = _job(tmp_path / "sink", store_path)
    (said,) = answers(job, 2, str(tmp_path / "reports"), find_codec)
    written = (tmp_path / "sink").read_bytes()
    assert said["digest"] == "sha256:" + hashlib.sha256(written).hexdigest()
    tar = subprocess.run(["gzip", "-dc"], input=written, capture_output=True, check=True).stdout
    assert said["diff_id"] == "sha256:" + hashlib.sha256(tar).hexdigest()
    assert said["replaced"] == 1
    reports = {path.suffix: path.read_bytes() for path in (tmp_path / "reports").iterdir()}
    assert reports[".wrong"] == b"wrong"
    assert reports[".right"] in written


def test_a_fault_is_told_and_the_next_job_done(
    shared: Child, store_path: Path, tmp_path: Path
) -> None:
    """A job that fails is answered with the file at fault; the child goes on."""
    os.mkfifo(store_path / os.fsdecode(b"p\xffpe"))
    said = shared.ask(_job(tmp_path / "sink", store_path))
    assert said["error"]["kind"] == "unsupported"
    assert said["error"]["path"] == "/nix/store/0-x/p\\xffpe"
    assert "digest" in shared.ask(_job(tmp_path / "sink", store_path / "bin"))


def test_a_full_disk(shared: Child, store_path: Path) -> None:
    """No room is told as what it is."""
    assert shared.ask(_job("/dev/full", store_path))["error"]["kind"] == "storage_full"


def test_a_sink_that_can_not_be_opened(shared: Child, store_path: Path, tmp_path: Path) -> None:
    """A sink in a folder that is not there is no fault of the store's."""
    said = shared.ask(_job(tmp_path / "none" / "sink", store_path))
    assert said["error"]["kind"] == "io"
    assert said["error"]["path"] == str(tmp_path / "none" / "sink")


def test_a_pipe_as_a_sink(shared: Child, store_path: Path, tmp_path: Path) -> None:
    """What goes through a named pipe is what would be in a file."""
    os.mkfifo(tmp_path / "sink")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "sink").read_bytes()))
    reader.start()
    said = shared.ask(_job(tmp_path / "sink", store_path))
    reader.join(HUNG)
    assert said["digest"] == "sha256:" + hashlib.sha256(read[0]).hexdigest()


def test_a_pipe_that_nobody_reads_to_its_end(child: Child, huge: Path, tmp_path: Path) -> None:
    """A reader who leaves ends the job."""
    os.mkfifo(tmp_path / "sink")
    child.tell(_job(tmp_path / "sink", huge))
    with open(tmp_path / "sink", "rb") as reader:
        reader.read(1000)
    assert child.process.stdout is not None
    assert json.loads(child.process.stdout.readline())["error"]["kind"] == "io"


def test_memory_does_not_follow_the_size(child: Child, tmp_path: Path) -> None:
    """A file of half a gigabyte takes no more memory than a handful of blocks."""
    with tempfile.NamedTemporaryFile() as file:
        os.truncate(file.name, 1 << 29)
        assert "digest" in child.ask(_job(tmp_path / "sink", Path(file.name)))
    assert child.peak() < 45 << 20


@pytest.mark.parametrize("busy", [True, False])
def test_it_ends_with_its_input(child: Child, huge: Path, busy: bool) -> None:
    """When the parent is gone, the child ends, in the midst of a job too."""
    if busy:
        child.tell(_job("/dev/null", huge))
    child.hang_up()
    assert child.process.wait(HUNG) == 0


def test_signals(child: Child, store_path: Path) -> None:
    """^C in a terminal is not for the child; TERM is."""
    assert "digest" in child.ask(_job("/dev/null", store_path))
    child.process.send_signal(signal.SIGINT)
    assert "digest" in child.ask(_job("/dev/null", store_path))
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(HUNG) == -signal.SIGTERM


def test_it_imports_little() -> None:
    """Nothing of the daemon is in the child's memory."""
    code = "import sys, nixery.packing.worker; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)
    # Some versions of zope.interface have Python itself make a namespace at its start.
    loaded = set(run.stdout.split())
    assert not loaded & {b"twisted", b"attr", b"attrs", b"zope.interface", b"zstandard", b"asyncio"}


def test_both_outputs(tmp_path: Path) -> None:
    """What is wrong and what is right lie side by side; once, however often it happens."""
    for _ in range(2):
        keep_report(str(tmp_path / "reports"), WrongBlock("x-1", b"wrong", b"right"))
    files = sorted((tmp_path / "reports").iterdir())
    assert [path.read_bytes() for path in files] == [b"right", b"wrong"]
    assert {path.name[32:] for path in files} == {".x-1.right", ".x-1.wrong"}


def test_bounded(tmp_path: Path) -> None:
    """No more than some are kept: the first."""
    for number in range(MOST_REPORTS + 5):
        keep_report(str(tmp_path), WrongBlock("x-1", b"%d" % number, b""))
    assert len(list(tmp_path.iterdir())) == 2 * MOST_REPORTS
    assert b"0" in {path.read_bytes() for path in tmp_path.glob("*.wrong")}


def test_no_place(tmp_path: Path) -> None:
    """That a report can't be kept is no matter."""
    (tmp_path / "file").touch()
    keep_report(str(tmp_path / "file"), WrongBlock("x-1", b"wrong", b"right"))
    keep_report(None, WrongBlock("x-1", b"wrong", b"right"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
