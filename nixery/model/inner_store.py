"""Nix's own state in an image that has Nix, so that it works there.

An image has Nix if a package that it names has the program ``nix-store``. What lies in its store
is registered then, nothing of it is garbage, and Nix is set up for one user in a container without
privileges.
"""

from collections.abc import Iterable, Mapping

from nixery.model.closure import STORE
from nixery.model.tree import Data, Entry, File, Folder, Kind, Link, Output

CONFIGURATION = "etc/nix/nix.conf"
_SETTINGS = """\
# One user, who may write to the store, builds as itself; containers make no namespaces.
build-users-group =
sandbox = false
"""
_STATE = "nix/var/nix"
_SCHEMA = b"10"  # as a number alone
NIX_STORE = "bin/nix-store"
PROFILE = ".nix-profile/bin"
"""Where programs are, in a user's home, that the user installs by Nix."""


def has_nix(outputs: Iterable[Output]) -> bool:
    """Whether an image has Nix."""
    items = (output.listing.get(NIX_STORE) for output in outputs)
    return any(item is not None and item.kind is Kind.OTHER for item in items)


def store_entries(database: bytes, kept: Iterable[str], owner: int = 0) -> dict[str, Entry]:
    """The entries of an image besides its store paths: name → entry.

    :param database: in which the image's store paths are registered.
    :param kept: the store paths of its packages, which are no garbage, nor what they refer to.
    :param owner: number of the user, and of the group, who is to use Nix.
    """
    folders = ("nix", "nix/store", "nix/var", _STATE, f"{_STATE}/db", f"{_STATE}/gcroots")
    roots: Mapping[str, Entry] = {
        f"{_STATE}/gcroots/image/{path.removeprefix(STORE + '/')}": Link(path) for path in kept
    }
    return {
        **{name: Folder(owner=owner) for name in folders},
        **roots,
        f"{_STATE}/db/db.sqlite": Data(database, owner=owner),
        f"{_STATE}/db/schema": Data(_SCHEMA, owner=owner),
        CONFIGURATION: File(_SETTINGS),
    }
