"""A file system tree that is made of packages' outputs.

The outputs are merged as nixpkgs' ``symlinkJoin`` does it: folders merge, everything else becomes
a link to the package's own file. Names are relative to the root and hold no leading slash; they
are text with ``surrogateescape`` for bytes that are not UTF-8.
"""

import os
from collections.abc import Iterable, Mapping
from enum import Enum

import attrs

from nixery.model.events import Collided

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644

# The store itself, and what container runtimes mount.
_RESERVED = frozenset({"nix", "proc", "sys", "dev"})
# What Nix tells other builders of a package, of no use in an image.
_LEFT_OUT = frozenset({"nix-support"})
_SYSTEM = "the system"
_MOST_LINKS = 40  # as many as Linux follows


class Kind(Enum):
    """The type of an item in a package's output, as far as merging is concerned.

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
    """A folder.

    :param owner: number of the user, and of the group, that it belongs to.
    """

    mode: int = _FOLDER_MODE
    owner: int = 0


@attrs.frozen
class Link:
    """A symbolic link."""

    target: str


@attrs.frozen
class File:
    """A file that no package brings."""

    content: str
    mode: int = _FILE_MODE


@attrs.frozen
class Data:
    """A file that no package brings, and that is no text.

    :param owner: number of the user, and of the group, that it belongs to.
    """

    content: bytes
    mode: int = _FILE_MODE
    owner: int = 0


Entry = Folder | Link | File | Data


class Tree:
    """A tree in the making.

    :ivar entries: name → entry, each with its parents.
    :ivar collisions: what packages could not have in it.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.collisions: list[Collided] = []
        self._owners: dict[str, str] = {}
        self._dangling: set[str] = set()
        self._aliases: dict[str, str] = {}  # name → the same in the package

    def merge(self, output: Output, expected: frozenset[str]) -> None:
        """Add a package's output; what is there already is kept.

        :param expected: names at which a dangling link is worse than nothing.
        """
        lost: set[str] = set()
        for name in sorted(output.listing, key=os.fsencode):
            top = name.partition("/")[0]
            if top in _LEFT_OUT or (lost and any(parent in lost for parent in _parents(name))):
                continue
            if name in expected and output.listing[name].kind is Kind.DANGLING:
                continue
            if top in _RESERVED:
                self._lose(name, _SYSTEM, output.package, lost)
            elif not self._add(name, output):
                self._lose(name, self._owners.get(name, _SYSTEM), output.package, lost)

    def put(self, name: str, entry: Entry) -> None:
        """Add something of the system's, unless a package has it, or makes it impossible; that a
        file is not there for its sake is noted."""
        parents = list(_parents(name))
        stopping = [*filter(self._blocks, parents), *([name] if name in self.entries else [])]
        if stopping:
            if isinstance(entry, File) and (owner := self._owners.get(stopping[0])) is not None:
                self.collisions.append(Collided(name, owner, _SYSTEM))
            return
        for parent in parents:
            self.entries.setdefault(parent, Folder())
        self.entries[name] = entry

    def settle(self) -> None:
        """Have aliases whose folder another package has kept from being there lead into their own
        package; to be called when all outputs are merged."""
        for name, own in self._aliases.items():
            if not isinstance(self.entries.get(self._end_of(name)), Folder):
                self.entries[name] = Link(own)

    def leads_somewhere(self, name: str) -> bool:
        """Whether something is there other than a dangling link."""
        return name in self.entries and name not in self._dangling

    def _end_of(self, name: str) -> str:
        """Where a name leads within the tree; nothing (the empty text) if it does not."""
        here: list[str] = []
        rest, links = name.split("/")[::-1], 0
        while rest:
            step = rest.pop()
            if step == "..":
                here = here[:-1]
            elif step not in ("", "."):
                here.append(step)
            entry = self.entries.get("/".join(here))
            if isinstance(entry, Link):
                links += 1
                if entry.target.startswith("/") or links > _MOST_LINKS:
                    return ""
                here.pop()
                rest.extend(entry.target.split("/")[::-1])
        return "/".join(here)

    def leads_to_a_package(self, name: str) -> bool:
        """Whether there is a link to a package's own file: no folder, no alias of one."""
        return isinstance(self.entries.get(name), Link) and name not in self._aliases

    def _blocks(self, name: str) -> bool:
        return not isinstance(self.entries.get(name, Folder()), Folder)

    def _add(self, name: str, output: Output) -> bool:
        item, present = output.listing[name], self.entries.get(name)
        entry = _entry(name, item, output.path)
        if present is None:
            self.entries[name] = entry
            self._owners[name] = output.package
            if item.kind is Kind.ALIAS:
                self._aliases[name] = f"{output.path}/{name}"
            elif item.kind is Kind.DANGLING:
                self._dangling.add(name)
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
