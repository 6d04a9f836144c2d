"""docs/command.md is true."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from nixery.cli.exits import MEANINGS
from nixery.cli.main import NAMES

TOP = Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs" / "command.md").read_text("utf-8")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("command", TOP / "docs" / "command.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_help_is_current(script: Any) -> None:
    """The page shows the help of each command as it is; ``make docs`` writes it anew."""
    assert script.with_help(PAGE) == PAGE
    without = re.sub(r"^  --json .*\n", "", PAGE, flags=re.MULTILINE)
    assert without != PAGE
    assert script.with_help(without) == PAGE


def test_the_exit_codes_are_current() -> None:
    """The table of exit codes is what the commands mean by them."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == MEANINGS


def test_every_command_is_there() -> None:
    """Each command is named."""
    assert [name for name in NAMES if not re.search(rf"nixery {name}\b", PAGE)] == []
