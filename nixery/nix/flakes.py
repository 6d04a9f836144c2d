"""Parsers of Nix's output about flakes, and of ``flake.lock``: pure."""

import json
from typing import Any

from nixery.model.package_errors import EvaluationFailed
from nixery.model.source import LockedFlake, without_credentials
from nixery.nix.messages import CONFINED

_HOSTED = ("github", "gitlab", "sourcehut")


def parse_flake_metadata(printed: str, store: str) -> LockedFlake:
    """Parse the output of ``nix flake metadata --json``: what the flake is locked to.

    :param store: the folder that ``/nix/store`` is in; empty for the machine's own.
    :raises ValueError: if it is something else.
    """
    document = json.loads(printed)
    try:
        locked, path = document["locked"], document["path"]
        if isinstance(revision := locked.get("rev"), str):
            date = locked.get("lastModified")
            return LockedFlake(
                str(document["url"]), revision, date if isinstance(date, int) else None
            )
        # No commit: a folder, or an edited work tree. Its copy in the store never changes.
        narHash = str(locked["narHash"])
        return LockedFlake(f"path:{store}{path}?narHash={_quoted(narHash)}", narHash)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("unexpected output of nix flake metadata") from error


def parse_flake_archive(printed: str) -> list[str]:
    """Parse the output of ``nix flake archive --json``: the store paths of a flake and its inputs.

    :raises ValueError: if it is something else.
    """
    paths: dict[str, None] = {}

    def collect(node: Any) -> None:
        if not isinstance(node, dict) or not isinstance(node.get("path"), str):
            raise ValueError("unexpected output of nix flake archive")
        paths[node["path"]] = None
        for inner in node.get("inputs", {}).values():
            collect(inner)

    collect(json.loads(printed))
    return list(paths)


def check_inputs(printed: str) -> None:
    """Check that a flake's inputs may be fetched for an author who must not see this machine.

    The author knows already what the lock file names by its contents, but not what else lies on
    this machine, or behind the credentials of the daemon's user.

    :param printed: the output of ``nix flake metadata --json``.
    :raises EvaluationFailed: if an input is a place on this machine, or not locked by its contents.
    """
    for name, locked in _locked_inputs(json.loads(printed).get("locks")):
        path, url = str(locked.get("path", "")), str(locked.get("url", ""))
        if locked.get("type") == "path" and path and not path.startswith("/"):
            if ".." not in path.split("/"):
                continue  # a part of the flake itself
        elif "narHash" not in locked:
            raise EvaluationFailed(
                f"{CONFINED}: the flake's input {name!r} is locked without its narHash"
            )
        elif locked.get("type") != "path" and not url.startswith(("file:", "/")):
            continue
        raise EvaluationFailed(
            f"{CONFINED}: the flake's input {name!r} is a place on this machine: "
            f"'{without_credentials(url or path)}'"
        )


def origins_of_inputs(lock: str) -> list[str]:
    """Prefixes of the URIs that a flake's inputs are fetched from.

    :param lock: the text of its ``flake.lock``.
    :raises ValueError: if it is something else.
    """
    found: dict[str, None] = {}
    for _, locked in _locked_inputs(json.loads(lock)):
        kind, url = str(locked.get("type")), str(locked.get("url", ""))
        if kind in _HOSTED:
            found[f"{kind}:{locked.get('owner')}/{locked.get('repo')}/"] = None
        elif url:
            folder = f"{url.partition('?')[0].rpartition('/')[0]}/"
            found |= {folder: None, f"{kind}+{folder}": None}
    return list(found)


def _locked_inputs(locks: Any) -> list[tuple[str, dict[str, Any]]]:
    try:
        nodes = locks["nodes"].items()
        return [(name, node["locked"]) for name, node in nodes if name != locks["root"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("unexpected contents of flake.lock") from error


def _quoted(text: str) -> str:
    return text.replace("/", "%2F").replace("+", "%2B")
