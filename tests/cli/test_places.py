"""Where commands find their daemon."""

from pathlib import Path

import pytest

from nixery.cli import places
from nixery.cli.exits import CommandFailed
from nixery.cli.places import Place
from tests.cli.fake_api import TOKEN, FakeApi, Run

FIRST = "GET /api/images?n=10000&after="


def test_the_state_folder(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is named counts, then the user's own, and then that of the service."""
    assert Place(str(tmp_path / "x"), None, None).state == str(tmp_path / "x")
    assert Place(None, None, None).state == str(state)
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(places, "_SERVICE", str(tmp_path / "service"))
    own = tmp_path / "home" / "nixery"
    assert Place(None, None, None).state == str(own)
    (tmp_path / "service").mkdir()
    assert Place(None, None, None).state == str(tmp_path / "service")
    own.mkdir(parents=True)
    assert Place(None, None, None).state == str(own)
    assert Place(None, "http://x", None).state is None


def test_tokens(run: Run, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named counts, then the variable, and then what the daemon has written; the
    latter is for the daemon of that folder alone."""
    api.answers[FIRST] = 200, {"images": []}
    file = tmp_path / "token"
    file.write_text("from-a-file\n")
    run("list")
    monkeypatch.setenv("NIXERY_API_TOKEN", "from-the-environment")
    run("list")
    run("list", "--token-file", str(file))
    monkeypatch.delenv("NIXERY_API_TOKEN")
    run("list", "--url", api.url)
    said = [token and token.removeprefix("Bearer ") for token in api.tokens]
    assert said == [TOKEN, "from-the-environment", "from-a-file", None]


def test_the_token_is_for_the_api(run: Run, api: FakeApi) -> None:
    """Where clients show credentials, the operator's token is none, and is not shown."""
    found = {"ready": True, "source": "x", "revision": "1", "packages": []}
    api.answers["GET /packages?q=x&n=20"] = 200, found
    run("search", "x")
    assert api.tokens == [None]


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_token_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A file that can't be read is a mistake on the command line, and told without what is in
    it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandFailed, match="the token can't be read from") as failed:
        Place(None, None, str(file)).token()
    assert failed.value.code == 2
