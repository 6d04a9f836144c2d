"""The part of the machine that an evaluation sees: files, and git and Mercurial in wrappers.

Files and folders are hidden by mounts over them, which :mod:`nixery.nix.supervisor` makes; what is
needed of a hidden folder is shown in it again. Nix runs git where a set fetches a repository, and
git does what the configuration of a repository says, which may be to run any program: on a folder
of this machine it is refused. What is fetched from elsewhere goes into repositories of Nix's own,
below its cache.
"""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence

import attrs

from nixery.nix.disk_faults import state_faults
from nixery.nix.messages import CONFINED
from nixery.nix.process import Surroundings
from nixery.whole_file import whole_file

_REFUSING = """#!/bin/sh
echo {message} >&2
exit 1
"""
_GIT = """#!/bin/sh
refuse() {{
    echo {message} >&2
    exit 1
}}
check() {{
    case "$1/" in
        */../*) refuse ;;
        {folders}) ;;
        *) refuse ;;
    esac
}}
case "$1" in
    -C) check "$2" ;;
    -c | init | ls-remote) ;;
    *) refuse ;;
esac
for word; do
    case "$word" in
        file://*) check "${{word#file://}}" ;;
        /*) check "$word" ;;
    esac
done
PATH=${{PATH#*:}}
exec git "$@"
"""
_MESSAGE = f"error: {CONFINED}: {{program}} may not be run on folders of this machine"


@attrs.frozen
class Confinement:
    """The bounds of an evaluation.

    :param uris: prefixes of the URIs that may be fetched, as in Nix's ``allowed-uris``.
    :param hidden: files and folders that the process does not see.
    :param own: folders that it sees, since Nix writes to them; made when they are not there.
    :param shown: other parts of the hidden folders that it sees, since Nix needs them.
    :param programs: a folder that comes first in its ``PATH``, for the wrappers.
    :param cache: where Nix caches what it fetches.
    :param fetching: what is seen while a flake is fetched with its inputs; its ``PATH`` begins
        with a folder for wrappers too.
    :param place: the package source's folder, if it is on this machine.
    :param environ: all that the process sees of the environment.
    """

    uris: tuple[str, ...]
    hidden: tuple[str, ...]
    own: tuple[str, ...]
    shown: tuple[str, ...]
    programs: str
    cache: str
    fetching: Surroundings
    place: str | None
    environ: Mapping[str, str]

    def install(self) -> None:
        """Write the wrappers."""
        install_wrappers(self.programs, [self.cache] if self.uris else [])
        sources = [self.cache] if self.place is None else [self.cache, self.place]
        install_wrappers(self._fetchers, sources)

    @property
    def _fetchers(self) -> str:
        return self.fetching.environ["PATH"].partition(":")[0]

    def for_fetching(self) -> Surroundings:
        """The surroundings for fetching a flake with its inputs.

        :raises NixUnavailable: if the wrappers are missing and can't be written;
            ``StorageFull`` if that is for lack of room.
        """
        if not os.access(os.path.join(self._fetchers, "git"), os.X_OK):
            self.install()
        return self.fetching

    def make_folders(self) -> None:
        """Make the folders that Nix writes to: one that does not exist can't be shown, and what
        Nix writes to it would be lost."""
        with state_faults():
            for folder in self.own:
                os.makedirs(folder, exist_ok=True)

    def mounts(self, needed: Sequence[str] = (), read: Sequence[str] = ()) -> list[str]:
        """The mounts that hide the files which are not to be seen.

        :param needed: paths that are shown besides, unless they are hidden themselves.
        :param read: paths that are shown in any case.
        """
        named = both_spellings([*self.own, *self.shown, *needed])
        return mounts(self.hidden, [*read, *(path for path in named if path not in self.hidden)])


def both_spellings(paths: Sequence[str]) -> list[str]:
    """Paths as they are written, and with links resolved: Nix looks at both."""
    return list(dict.fromkeys(p for path in paths for p in (path, os.path.realpath(path))))


def install_wrappers(folder: str, allowed: Sequence[str]) -> None:
    """Write the wrappers of git and Mercurial.

    :param folder: to be the first of ``PATH``.
    :param allowed: folders whose repositories git may be run on; if there is none, it may not even
        connect to remotes.
    """
    patterns = " | ".join(f"{shlex.quote(path.rstrip('/'))}/*" for path in allowed)
    with state_faults():
        os.makedirs(folder, exist_ok=True)
        for program in ("git", "hg"):
            script = _GIT if program == "git" and allowed else _REFUSING
            message = shlex.quote(_MESSAGE.format(program=program))
            path = os.path.join(folder, program)
            with whole_file(path, mode=0o755) as file:
                file.write(script.format(message=message, folders=patterns).encode("utf-8"))


def mounts(hidden: Iterable[str], shown: Iterable[str]) -> list[str]:
    """The mounts that make a view, in their order. Pure.

    :param hidden: paths of what is hidden, with all that is in it.
    :param shown: paths of what is seen in spite of that, also if it is named as hidden too.
        Something hidden within it stays hidden.
    """
    wanted = {_plain(path): "-" for path in hidden} | {_plain(path): "+" for path in shown}
    taken: dict[str, str] = {}
    # Those that contain others come first.
    for path in sorted(wanted, key=lambda path: (path.count("/"), path)):
        containing = (each for each in taken if within(path, [each]))
        if wanted[path] != taken.get(max(containing, key=len, default=""), "+"):
            taken[path] = wanted[path]
    return [f"{verb}{path}" for path, verb in taken.items()]


def within(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of some folders, or lies in one."""
    parts = _plain(path)
    return any(parts == f or parts.startswith(f.rstrip("/") + "/") for f in map(_plain, folders))


def _plain(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))
