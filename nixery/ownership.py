"""Nixery's own folders, marked by a file. Nothing is ever removed from any other folder.

Folders of versions that left no such file are recognized by their contents.
"""

import os
import re
import uuid
from collections.abc import Collection, Iterable, Iterator

from twisted.logger import Logger

from nixery.reactor import IReactor, in_thread
from nixery.whole_file import whole_file

_log = Logger()

MARKER = "nixery-folder"
"""The name of the file."""
FORMAT = 1
_TEXT = f"""nixery folder, format {FORMAT}

Nixery keeps its state or its images here, and removes files that it no longer needs, in folders and
by names of its own. Keep other files elsewhere.
"""
_FIRST_LINE = re.compile(r"nixery folder, format ([0-9]{1,9})\n")
_LONGEST = 4096  # bytes of the file that are read

_KEY = r"[0-9a-f]{1,128}"
_UUID = r"[0-9a-f]{32}"
_DIGEST = r"[0-9a-f]{64}"
_ANYTHING = r".*"
_LAYOUT: dict[str, str] = {
    # The storage of images.
    "staging": rf"{_UUID}|tmp[a-z0-9_]{{8}}|aside-{_UUID}",
    "layers": _DIGEST,
    "used": _DIGEST,
    "builds": _KEY,
    "contents": _KEY,
    "manifests": _KEY,
    "provenance": _KEY,
    "pulls": _KEY,
    "referrers": _KEY,
    "removed": _KEY,
    "served": _KEY,
    "verified": _KEY,
    "leases": _KEY,
    # The state folder.
    "history": r"[0-9a-f]{16}(\.events\.zst|\.json(\.new)?)",
    "search": rf"index\.gz(\.{_UUID}\.new)?|tmp[a-z0-9_]{{8}}",
    "git": rf"tmp|{_UUID}\.git(\.new|\.old)?",
    "sources": _UUID,
    "revisions": rf"{_UUID}\.json(\.new)?",
    "kept": _UUID,
    "roots": rf"[0-9]+\.{_UUID}",
    "reports": rf"{_UUID}\..*\.(right|wrong)",
    # Where nothing is removed, or Nix alone does it; the storage looks after itself.
    "storage": _ANYTHING,
    "nix": _ANYTHING,
    "cache": _ANYTHING,
    "packages": _ANYTHING,
    "programs": _ANYTHING,
}
"""Nixery's folders, and the pattern of the names in each."""
_FILES = re.compile(
    r"scrubbed|((popularity|verified)\.json|images\.jsonl)(\.new)?|api-token|api-address|"
    r"twistd\.(log(\.[0-9]+)?|pid)"
)
_PASSED_OVER = re.compile(r"\..*|lost\+found", re.DOTALL)
"""Names made by the file system, or by programs that use the folder as a home: Nix, git, ssh."""
_PROOF = ({"roots", "history"}, {"staging", "layers", "builds", "manifests"})
"""Folders that every start makes: where they exist, other files may be the operator's."""


class NotOurs(Exception):
    """A folder is not Nixery's; the text gives the evidence."""


def check(folder: str, known: Iterable[str] = ()) -> None:
    """Check that a folder is Nixery's, is empty, or does not exist. Blocks.

    :param known: paths of files and folders that settings name, which may be in it.
    :raises NotOurs: if it is not.
    :raises OSError: if it can't be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    if MARKER in names:
        _check_marker(os.path.join(folder, MARKER))
        return
    ours = _steps_below(folder, known)
    names = [name for name in names if name not in ours and not _PASSED_OVER.fullmatch(name)]
    for name in sorted(names):
        if name in _LAYOUT:
            _check_names(folder, name)
    proven = any(proof <= set(names) for proof in _PROOF)
    foreign = sorted(name for name in names if name not in _LAYOUT and not _FILES.fullmatch(name))
    if foreign and not proven:
        raise NotOurs(_words(foreign[0]))


async def claim_all(reactor: IReactor, folders: Iterable[str], known: Iterable[str]) -> None:
    """Mark folders as Nixery's, and log which could not be.

    :raises NotOurs: if one of them is not Nixery's.
    """
    for path in folders:
        fault = await in_thread(reactor, claim, path, known)
        if fault is not None:
            _log.warn("{path} can't be marked as Nixery's: {error}", path=path, error=fault)


def claim(folder: str, known: Iterable[str] = ()) -> OSError | None:
    """Mark a folder as Nixery's, after a check; it is made if it does not exist. Blocks.

    :return: why it could not be marked, if so: it may be usable all the same.
    :raises NotOurs: if it is not Nixery's.
    """
    try:
        check(folder, known)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, MARKER)
        if not os.path.lexists(path):
            beside = os.path.join(folder, f".{MARKER}.{uuid.uuid4().hex}")
            with whole_file(path, beside) as file:
                file.write(_TEXT.encode("ascii"))
    except OSError as error:
        return error
    return None


def _check_marker(path: str) -> None:
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(_LONGEST)
    # An empty one was made by hand, or is left from a crash.
    found = _FIRST_LINE.match(text)
    if text and found is None:
        raise NotOurs(f"{path} is not a file that Nixery has written")
    if found is not None and int(found[1]) > FORMAT:
        raise NotOurs(f"it was made by a newer Nixery: {path} says format {found[1]}")


def _check_names(folder: str, name: str) -> None:
    form = re.compile(_LAYOUT[name], re.DOTALL)
    path = os.path.join(folder, name)
    try:
        inside = os.listdir(path)
    except NotADirectoryError:
        raise NotOurs(_words(name)) from None
    for each in inside:
        if not form.fullmatch(each) and not _PASSED_OVER.fullmatch(each):
            raise NotOurs(_words(os.path.join(name, each)))


def _words(name: str) -> str:
    return f"it holds {name!r}, which is not Nixery's; expected an empty folder, or one of Nixery's"


def _steps_below(folder: str, paths: Iterable[str]) -> Collection[str]:
    """The names in a folder on the way to some paths."""

    def steps() -> Iterator[str]:
        for path in paths:
            relative = os.path.relpath(path, folder)
            step = relative.split(os.sep)[0]
            if step not in (os.pardir, os.curdir):
                yield step

    return set(steps())
