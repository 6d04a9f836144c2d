"""What Nix prints about flakes."""

import json

import pytest

from nixery.model.source import LockedFlake
from nixery.nix.flakes import parse_flake_archive, parse_flake_metadata

COMMIT = "7" * 40
PATH = "/nix/store/" + "a" * 32 + "-source"
CLEAN = {
    "locked": {"narHash": "sha256-BR9x+2D/o=", "rev": COMMIT, "type": "git"},
    "path": PATH,
    "url": f"git+file:///set?ref=master&rev={COMMIT}",
}
EDITED = {
    "locked": {"narHash": "sha256-BR9x+2D/o=", "type": "git"},
    "path": PATH,
    "url": "git+file:///set",
}


def test_a_commit() -> None:
    """A flake at a commit is named by it."""
    assert parse_flake_metadata(json.dumps(CLEAN), "") == LockedFlake(str(CLEAN["url"]), COMMIT)


def test_an_edited_work_tree() -> None:
    """A flake without a commit is its copy in the store, wherever that lies, by its hash."""
    locked = parse_flake_metadata(json.dumps(EDITED), "/chroot")
    reference = f"path:/chroot{PATH}?narHash=sha256-BR9x%2B2D%2Fo="
    assert locked == LockedFlake(reference, "sha256-BR9x+2D/o=")


@pytest.mark.parametrize(
    "printed", ["", "[]", "{}", "null", '{"locked": {}}', '{"locked": 1}', "x"]
)
def test_other_texts(printed: str) -> None:
    """Anything else is refused as what it is."""
    with pytest.raises(ValueError):  # noqa: PT011 - json's own words for what is no JSON
        parse_flake_metadata(printed, "")


def test_archives() -> None:
    """All inputs of a flake are found, and each once."""
    inner = {"path": "/c", "inputs": {}}
    document = {"path": "/a", "inputs": {"x": {"path": "/b", "inputs": {"y": inner}}, "y": inner}}
    assert parse_flake_archive(json.dumps(document)) == ["/a", "/b", "/c"]
    for printed in ("[]", "{}", '{"path": 1}', '{"path": "/a", "inputs": {"x": null}}'):
        with pytest.raises(ValueError, match="flake archive"):
            parse_flake_archive(printed)
