"""Parsers of Nix's output about flakes."""

import json
from typing import Any

import pytest

from nixery.model.package_errors import EvaluationFailed
from nixery.model.source import LockedFlake
from nixery.nix.flakes import (
    check_inputs,
    origins_of_inputs,
    parse_flake_archive,
    parse_flake_metadata,
)

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


def test_the_date_of_a_commit() -> None:
    """A flake at a commit has the commit's date; that of a folder's files is none."""
    for flake, date in ((CLEAN, 1_700_000_000), (EDITED, None)):
        locked = {**flake["locked"], "lastModified": 1_700_000_000}  # type: ignore[dict-item]
        assert parse_flake_metadata(json.dumps({**flake, "locked": locked}), "").date == date


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


HASH = "sha256-BR9x="
GITHUB = {"type": "github", "owner": "o", "repo": "r", "rev": COMMIT, "narHash": HASH}


def lock(locked: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"root": {"inputs": {"x": "x"}}, "x": {"locked": locked}}, "root": "root"}


@pytest.mark.parametrize(
    "locked",
    [
        GITHUB,
        {"type": "git", "url": "https://example.com/x", "rev": COMMIT, "narHash": HASH},
        {"type": "tarball", "url": "https://example.com/x.tar.gz", "narHash": HASH},
        {"type": "path", "path": "./part"},
    ],
)
def test_inputs_that_may_be(locked: dict[str, Any]) -> None:
    """A flake's inputs come from elsewhere, known by their contents, or from the flake itself."""
    check_inputs(json.dumps(CLEAN | {"locks": lock(locked)}))


@pytest.mark.parametrize(
    ("locked", "reason"),
    [
        ({"type": "path", "path": "/srv/x", "narHash": HASH}, "machine: '/srv/x'"),
        ({"type": "path", "path": "../x"}, "narHash|machine"),
        ({"type": "path", "path": "./a/../../x", "narHash": HASH}, "machine"),
        ({"type": "git", "url": "file:///srv/x", "rev": COMMIT, "narHash": HASH}, "machine"),
        ({"type": "file", "url": "file:///srv/x", "narHash": HASH}, "machine"),
        ({"type": "git", "url": "ssh://u:p@example.com/x", "rev": COMMIT}, "without its narHash"),
    ],
)
def test_inputs_that_may_not_be(locked: dict[str, Any], reason: str) -> None:
    """A flake's author names neither places on this machine nor what only its user can see."""
    with pytest.raises(EvaluationFailed, match=reason):
        check_inputs(json.dumps(CLEAN | {"locks": lock(locked)}))


def test_origins() -> None:
    """The origins of inputs are named like Nix names them: a repository, a host's folder."""
    git = {"type": "git", "url": "https://example.com/a/x?ref=main", "narHash": HASH}
    for locked, origins in (
        (GITHUB, ["github:o/r/"]),
        (git, ["https://example.com/a/", "git+https://example.com/a/"]),
        ({"type": "path", "path": "./x"}, []),
    ):
        assert origins_of_inputs(json.dumps(lock(locked))) == origins
    for text in ("", "[]", "{}", '{"root": "root"}'):
        with pytest.raises(ValueError):  # noqa: PT011 - json's own words for what is no JSON
            origins_of_inputs(text)
