"""Nix's own state in an image."""

from nixery.model.inner_store import has_nix, store_entries
from nixery.model.rootfs import make_rootfs
from nixery.model.tree import Data, Folder, Item, Kind, Link, Output

PATH = f"/nix/store/{'x' * 32}-nix"
FOLDER, OTHER, DANGLING = Item(Kind.FOLDER), Item(Kind.OTHER), Item(Kind.DANGLING)


def nix(**items: Item) -> Output:
    named = {name.replace("__", "/").replace("_dot_", "."): each for name, each in items.items()}
    return Output("nix", PATH, named)


def test_how_nix_is_known() -> None:
    """An image has Nix if one of its packages has the program ``nix-store``."""
    program = {"bin": FOLDER, "bin/nix-store": OTHER}
    assert has_nix([Output("a", PATH, {}), Output("nix", PATH, program)])
    assert not has_nix([Output("a", PATH, {"bin": FOLDER, "bin/nix": OTHER})])
    assert not has_nix([Output("a", PATH, {**program, "bin/nix-store": DANGLING})])


def test_what_nix_needs() -> None:
    """Database, schema and roots are where Nix has them, for whoever is to use it."""
    for owner in (0, 1000):
        entries = make_rootfs([], own=store_entries(b"\0db", [PATH], owner)).entries
        for folder in ("nix", "nix/store", "nix/var/nix", "nix/var/nix/db"):
            assert entries[folder] == Folder(owner=owner)
        assert entries["nix/var/nix/db/db.sqlite"] == Data(b"\0db", owner=owner)
        # Nix takes nothing but digits.
        assert entries["nix/var/nix/db/schema"] == Data(b"10", owner=owner)
        assert entries[f"nix/var/nix/gcroots/image/{'x' * 32}-nix"] == Link(PATH)


def test_settings_of_a_package() -> None:
    """A package's own settings of Nix are kept, and it is told; a dangling link is none, and its
    own state of a store is not taken."""
    own = store_entries(b"", [PATH])
    theirs = nix(etc=FOLDER, etc__nix=FOLDER, etc__nix__nix_dot_conf=OTHER, nix=FOLDER)
    root = make_rootfs([theirs], own=own)
    assert root.entries["etc/nix/nix.conf"] == Link(f"{PATH}/etc/nix/nix.conf")
    assert root.entries["nix/var/nix/db/db.sqlite"] == Data(b"")
    told = {(each.name, each.kept, each.lost) for each in root.collisions}
    assert told == {("nix", "the system", "nix"), ("etc/nix/nix.conf", "nix", "the system")}
    dangling = nix(etc=FOLDER, etc__nix=FOLDER, etc__nix__nix_dot_conf=DANGLING)
    root = make_rootfs([dangling], own=own)
    assert root.entries["etc/nix/nix.conf"] == own["etc/nix/nix.conf"]
    assert root.collisions == ()
    root = make_rootfs([nix(etc=FOLDER, etc__nix=OTHER)], own=own)
    assert root.entries["etc/nix"] == Link(f"{PATH}/etc/nix")
    assert [each.name for each in root.collisions] == ["etc/nix/nix.conf"]
