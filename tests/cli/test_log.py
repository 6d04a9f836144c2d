"""``nixery log``."""

import json
from pathlib import Path
from typing import Any

from nixery.history.blocks import Block, BlockFile
from nixery.history.folder import HistoryFolder
from nixery.history.summary import BuildHead
from nixery.model.event_json import line
from nixery.model.events import Evaluating, Event, Failed, LogLine
from tests.cli.fake_api import FakeApi, Run

ID = "0123456789abcdef"
LIST = "GET /builds?n=1000"


def head(**facts: Any) -> dict[str, Any]:
    return {"id": ID, "name": "git", "tag": "latest", "state": "done", "events": 2} | facts


def test_the_last_build_of_an_image(run: Run, api: FakeApi) -> None:
    """The log is the one of the last build of that name and tag."""
    api.answers[LIST] = 200, [head(name="jq", id="f" * 16), head(), head(id="0" * 16)]
    api.answers[f"GET /builds/{ID}"] = 200, head()
    api.answers[f"GET /builds/{ID}/log"] = 200, "git> ünpacking\n".encode()
    ran = run("log", "git")
    assert (ran.code, ran.out) == (0, "git> ünpacking\n")


def test_a_failed_build(run: Run, api: FakeApi) -> None:
    """The exit code tells of a failure."""
    api.answers[f"GET /builds/{ID}"] = 200, head(state="failed")
    api.answers[f"GET /builds/{ID}/log"] = 200, b"nixery> failed: x\n"
    assert run("log", ID).code == 1


def test_a_running_build(run: Run, api: FakeApi) -> None:
    """Without -f, the log ends with what there is; with it, it is followed."""
    event = b'{"id":%d,"time":1.0,"type":"log-line","derivation":"git","line":"step %d"}\n'
    api.answers[f"GET /builds/{ID}"] = 200, head(state="running")
    api.answers[f"GET /builds/{ID}/events"] = 200, b"".join(event % (n, n) for n in range(1, 9))
    api.answers[f"GET /builds/{ID}/log"] = 200, b"git> all of it\n"
    assert run("log", ID).out == "git> step 1\ngit> step 2\n"
    assert run("log", "-f", ID).out == "git> all of it\n"


def test_no_build(run: Run, api: FakeApi) -> None:
    """An image that was not built has no log."""
    api.answers[LIST] = 200, []
    ran = run("log", "git")
    assert ran.code == 3
    assert "no build of git:latest is remembered" in ran.err


def test_without_a_daemon(run: Run, state: Path) -> None:
    """Without a daemon, logs are read from its state folder, which stays as it is."""
    folder = HistoryFolder(str(state / "history"))
    (state / "history").mkdir()
    events: list[Event] = [Evaluating(), LogLine("git", "step \x1b[2J1"), Failed("it broke", None)]
    lines = b"".join(line(number, 1.0, event) for number, event in enumerate(events, 1))
    BlockFile(folder.events(ID)).append(Block(1, 3, lines))
    folder.save(BuildHead(ID, "ab", "git", "latest", 1.0, "failed", 2.0, events=3), {})
    (state / "history" / f"{'f' * 16}.json").write_text("{")
    before = {path.name: path.read_bytes() for path in (state / "history").iterdir()}
    for name in ("git", ID):
        ran = run("log", name)
        assert ran.code == 1
        assert "git> step 1\nnixery> failed: it broke\n" in ran.out
    assert run("log", "jq").code == 3
    assert {path.name: path.read_bytes() for path in (state / "history").iterdir()} == before
    assert json.loads((state / "history" / f"{ID}.json").read_text())["head"]["id"] == ID
