"""The root file system of an image: which folders, links and files its top layer holds.

The packages' outputs are merged as nixpkgs' ``symlinkJoin`` does it: folders merge, everything
else becomes a link to the package's own file. Names are relative to the root and hold no
leading slash; they are text with ``surrogateescape`` for bytes that are not UTF-8.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import attrs

from nixery.model.events import Collided
from nixery.model.manifest import CERTIFICATES

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644

# The store itself, and what container runtimes mount.
_RESERVED = frozenset({"nix", "proc", "sys", "dev"})
# What Nix tells other builders of a package, of no use in an image.
_LEFT_OUT = frozenset({"nix-support"})

_FOLDERS = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "etc": _FOLDER_MODE}
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
# Where scripts expect them, and what may stand there, the best first.
# A dangling link of a package is kept elsewhere, but never stands in for one of these.
_LINKS = {"bin/sh": ("bin/sh", "bin/bash", "bin/dash"), "usr/bin/env": ("bin/env",)}
_SYSTEM = "the system"
_EXPECTED = frozenset(_LINKS).union(*_LINKS.values())


class Kind(Enum):
    """What something in a package's output is, as far as merging goes.

    An ``ALIAS`` is a relative link to a folder of the same package, such as ``sbin`` → ``bin``:
    kept as it is, it leads to the merged folder. ``DANGLING`` is a link that leads nowhere.
    """

    FOLDER = "folder"
    ALIAS = "alias"
    DANGLING = "dangling"
    OTHER = "other"


@attrs.frozen
class Item:
    """Something in a package's output.

    :param target: where an alias leads, as it is written.
    """

    kind: Kind
    target: str = ""


Listing = Mapping[str, Item]
"""Name relative to the output → what is there; nothing for an output that is no folder."""


@attrs.frozen
class Output:
    """A package's output: where it is, and what is in it."""

    package: str
    path: str
    listing: Listing


@attrs.frozen
class Folder:
    """A folder of the root file system."""

    mode: int = _FOLDER_MODE


@attrs.frozen
class Link:
    """A symbolic link."""

    target: str


@attrs.frozen
class File:
    """A file that no package brings."""

    content: str
    mode: int = _FILE_MODE


Entry = Folder | Link | File


@attrs.frozen
class RootFs:
    """The top layer.

    :param entries: name → entry, sorted by the names' bytes, each with its parents.
    """

    entries: Mapping[str, Entry]
    collisions: Sequence[Collided]

    @property
    def has_certificates(self) -> bool:
        """Whether certificate authorities are where ``SSL_CERT_FILE`` points to."""
        return CERTIFICATES in self.entries


def make_rootfs(outputs: Sequence[Output]) -> RootFs:
    """Merge packages' outputs and add what every system has.

    :param outputs: in the order of the packages' names: the first one's file is kept where two
        collide.
    """
    tree = _Tree()
    for output in outputs:
        tree.merge(output)
    for place, candidates in _LINKS.items():
        if found := next(filter(tree.leads_to_a_package, candidates), None):
            tree.put(place, tree.entries[found])
    for name, content in _FILES.items():
        tree.put(name, File(content))
    names = sorted(tree.entries, key=os.fsencode)
    return RootFs({name: tree.entries[name] for name in names}, tuple(tree.collisions))


class _Tree:
    """A root file system in the making: it begins with the folders that every system has."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.owners: dict[str, str] = {}
        self.collisions: list[Collided] = []
        for name, mode in _FOLDERS.items():
            self.put(name, Folder(mode))

    def merge(self, output: Output) -> None:
        lost: set[str] = set()
        for name in sorted(output.listing, key=os.fsencode):
            top = name.partition("/")[0]
            if top in _LEFT_OUT or (lost and any(parent in lost for parent in _parents(name))):
                continue
            if name in _EXPECTED and output.listing[name].kind is Kind.DANGLING:
                continue
            if top in _RESERVED:
                self._lose(name, _SYSTEM, output.package, lost)
            elif not self._add(name, output):
                self._lose(name, self.owners.get(name, _SYSTEM), output.package, lost)

    def put(self, name: str, entry: Entry) -> None:
        """Add something of our own, unless a package has it, or makes it impossible."""
        parents = list(_parents(name))
        if name in self.entries or any(self._blocks(parent) for parent in parents):
            return
        for parent in parents:
            self.entries.setdefault(parent, Folder())
        self.entries[name] = entry

    def leads_to_a_package(self, name: str) -> bool:
        """Whether there is a link to a package's own file: no folder, no alias of one."""
        entry = self.entries.get(name)
        return isinstance(entry, Link) and entry.target.startswith("/")

    def _blocks(self, name: str) -> bool:
        return not isinstance(self.entries.get(name, Folder()), Folder)

    def _add(self, name: str, output: Output) -> bool:
        item, present = output.listing[name], self.entries.get(name)
        entry = _entry(name, item, output.path)
        if present is None:
            self.entries[name] = entry
            self.owners[name] = output.package
            return True
        # Two equal aliases, or one link that two names of a package both bring, are no conflict.
        return present == entry or (isinstance(present, Folder) and isinstance(entry, Folder))

    def _lose(self, name: str, kept: str, lost_by: str, lost: set[str]) -> None:
        lost.add(name)
        self.collisions.append(Collided(name, kept, lost_by))


def _entry(name: str, item: Item, path: str) -> Entry:
    match item.kind:
        case Kind.FOLDER:
            return Folder()
        case Kind.ALIAS:
            return Link(item.target)
        case Kind.OTHER | Kind.DANGLING:
            return Link(f"{path}/{name}")


def _parents(name: str) -> Iterable[str]:
    """The folders that a name lies in, the topmost first."""
    steps = name.split("/")
    return ("/".join(steps[:end]) for end in range(1, len(steps)))
