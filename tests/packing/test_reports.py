"""What compression made wrong is kept, within bounds."""

from pathlib import Path

from nixery.packing.compress import WrongBlock
from nixery.packing.worker import MOST_REPORTS, keep_report


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
