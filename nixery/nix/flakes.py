"""What Nix prints about flakes: pure."""

import json
from typing import Any

from nixery.model.source import LockedFlake


def parse_flake_metadata(printed: str, store: str) -> LockedFlake:
    """What a flake is locked to, as ``nix flake metadata --json`` has it.

    :param store: the folder that the store's files are in, before ``/nix/store``.
    :raises ValueError: if it is not that.
    """
    document = json.loads(printed)
    try:
        locked, path = document["locked"], document["path"]
        if isinstance(revision := locked.get("rev"), str):
            return LockedFlake(str(document["url"]), revision)
        # No commit: a folder, or a work tree that was edited. Its copy in the store stays as it is.
        narHash = str(locked["narHash"])
        return LockedFlake(f"path:{store}{path}?narHash={_quoted(narHash)}", narHash)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not what nix flake metadata prints") from error


def parse_flake_archive(printed: str) -> list[str]:
    """The store paths of a flake and of all its inputs, as ``nix flake archive --json`` has them.

    :raises ValueError: if it is not that.
    """
    paths: dict[str, None] = {}

    def collect(node: Any) -> None:
        if not isinstance(node, dict) or not isinstance(node.get("path"), str):
            raise ValueError("not what nix flake archive prints")
        paths[node["path"]] = None
        for inner in node.get("inputs", {}).values():
            collect(inner)

    collect(json.loads(printed))
    return list(paths)


def _quoted(text: str) -> str:
    return text.replace("/", "%2F").replace("+", "%2B")
