"""The guide for those who change Nixery names files that exist."""

import re
from pathlib import Path

TOP = Path(__file__).parents[1]


def test_named_files_exist() -> None:
    """Every file and folder of nixery/ that docs/architecture.md names is there."""
    text = (TOP / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*(?:\.py|/))`", text))
    assert "model/request_errors.py" in named
    known = [TOP, TOP / "nixery"]
    assert sorted(n for n in named if not any((top / n).exists() for top in known)) == []


def test_every_layer_is_named() -> None:
    """Every folder of nixery/ is a layer that the page names."""
    text = (TOP / "docs" / "architecture.md").read_text("utf-8")
    folders = [path.parent.name for path in (TOP / "nixery").glob("*/__init__.py")]
    assert [name for name in folders if f"`{name}/`" not in text] == []
