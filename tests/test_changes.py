"""News fragments and the changelog that towncrier makes of them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
TYPES = {
    each["directory"]: each["name"]
    for each in tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"][
        "type"
    ]
}
FRAGMENT = re.compile(rf"(\d+|\+[\w-]+)\.({'|'.join(TYPES)})(\.\d+)?\.md")


def draft(folder: Path) -> str:
    """The entry that towncrier would write for the project in a folder."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--dir", str(folder)]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_fragments_have_an_issue_and_a_known_type() -> None:
    """Every fragment has text and a name that towncrier takes: it ignores others without a word."""
    fragments = [path for path in (TOP / "changes").iterdir() if path.name != "README.md"]
    assert [path.name for path in fragments if not FRAGMENT.fullmatch(path.name)] == []
    assert [path.name for path in fragments if not path.read_text("utf-8").strip()] == []
    assert not FRAGMENT.fullmatch("16.features.md")


def test_the_next_entry(tmp_path: Path) -> None:
    """Towncrier makes an entry of the fragments: each type has its heading, each text its issue."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(TOP / name, tmp_path)
    shutil.copytree(TOP / "changes", tmp_path / "changes")
    for kind in TYPES:
        (tmp_path / "changes" / f"1.{kind}.md").write_text(f"A {kind} `of some kind`.\n")
    said = draft(tmp_path)
    for kind, name in TYPES.items():
        assert f"### {name}\n" in said
        assert f"- A {kind} `of some kind`. (#1)" in said
    for path in (TOP / "changes").glob("*.*.md"):
        assert path.read_text("utf-8").splitlines()[0] in said


def test_contributors_are_told_the_types() -> None:
    """CONTRIBUTING.md lists the types that there are."""
    text = (TOP / "CONTRIBUTING.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(TYPES)
