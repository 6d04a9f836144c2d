"""docs/pull-ready.cast is a recording that players take."""

import json
import re
from pathlib import Path

LINES = (Path(__file__).resolve().parents[2] / "docs" / "pull-ready.cast").read_text("ascii")


def test_the_recording() -> None:
    """It has a header, and events in order that show a build from its evaluation to its end; no
    line is wider than the terminal."""
    head, *events = map(json.loads, LINES.splitlines())
    assert (head["version"], head["width"]) == (2, 80)
    times = [seconds for seconds, _, _ in events]
    assert times == sorted(times)
    assert {kind for _, kind, _ in events} == {"o"}
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) for _, _, text in events]
    for words in ("evaluating", "building, ", "packing, ", "ready, sha256:"):
        assert any(words in text for text in shown)
    assert max(len(line) for text in shown for line in re.split(r"[\r\n]+", text)) <= 80
