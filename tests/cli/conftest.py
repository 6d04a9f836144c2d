"""The command and a daemon for it to ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_api import TOKEN, FakeApi, Run, runner, serving


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder, which commands find."""
    for name in ("NIXERY_URL", "NIXERY_API_TOKEN", "NIXERY_API_TOKEN_FILE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    return tmp_path


@pytest.fixture
def api(state: Path) -> Iterator[FakeApi]:
    """A daemon of this state folder."""
    with serving() as api:
        (state / "api-address").write_text(f"{api.url}\n")
        (state / "api-token").write_text(f"{TOKEN}\n")
        yield api


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: Path) -> Run:
    """Runs the command."""
    return runner(capsys, monkeypatch)
