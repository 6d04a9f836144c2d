"""The root file system."""

import os

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.rootfs import File, Folder, Item, Kind, Link, Output, RootFs, make_rootfs

FOLDER, OTHER = Item(Kind.FOLDER), Item(Kind.OTHER)


def path_of(package: str) -> str:
    return f"/nix/store/{'x' * 32}-{package}"


def output(package: str, **items: Item) -> Output:
    listing = {name.replace("__", "/").replace("_dot_", "."): item for name, item in items.items()}
    return Output(package, path_of(package), listing)


def merge(*outputs: Output) -> RootFs:
    return make_rootfs(outputs)


def test_folders_merge_and_files_become_links() -> None:
    """Files of two packages in one folder are links to each package's own."""
    root = merge(output("a", bin=FOLDER, bin__one=OTHER), output("b", bin=FOLDER, bin__two=OTHER))
    assert root.entries["bin"] == Folder()
    assert root.entries["bin/one"] == Link(f"{path_of('a')}/bin/one")
    assert root.entries["bin/two"] == Link(f"{path_of('b')}/bin/two")
    assert root.collisions == ()


def test_the_first_package_wins() -> None:
    """Of two files at one place the first package's is kept, and the loser is noted."""
    root = merge(output("a", bin=FOLDER, bin__x=OTHER), output("b", bin=FOLDER, bin__x=OTHER))
    assert root.entries["bin/x"] == Link(f"{path_of('a')}/bin/x")
    assert [(c.name, c.kept, c.lost) for c in root.collisions] == [("bin/x", "a", "b")]


def test_a_folder_that_collides_with_a_file() -> None:
    """A folder where another package has a file loses all that is in it, and is noted once."""
    root = merge(output("a", x=OTHER), output("b", x=FOLDER, x__y=OTHER, x__z=OTHER))
    assert root.entries["x"] == Link(f"{path_of('a')}/x")
    assert "x/y" not in root.entries
    assert len(root.collisions) == 1


def test_aliases_lead_to_the_merged_folder() -> None:
    """``sbin`` → ``bin`` is kept as it is, and two packages may both have it."""
    alias = Item(Kind.ALIAS, "bin")
    root = merge(
        output("a", bin=FOLDER, sbin=alias), output("b", bin=FOLDER, sbin=alias, bin__x=OTHER)
    )
    assert root.entries["sbin"] == Link("bin")
    assert root.collisions == ()


def test_what_every_system_has() -> None:
    """Without any package there are writable folders, users, groups and name services."""
    root = merge()
    assert root.entries["tmp"] == root.entries["var/tmp"] == Folder(0o1777)
    assert isinstance(root.entries["root"], Folder)
    for name in ("etc/passwd", "etc/group", "etc/nsswitch.conf"):
        assert isinstance(root.entries[name], File)
    assert "bin/sh" not in root.entries
    assert "usr/bin/env" not in root.entries


def test_packages_bring_their_own() -> None:
    """A package's own users are kept."""
    root = merge(output("a", etc=FOLDER, etc__passwd=OTHER))
    assert root.entries["etc/passwd"] == Link(f"{path_of('a')}/etc/passwd")


def test_shell_and_env() -> None:
    """``/bin/sh`` and ``/usr/bin/env`` lead to what a package provides."""
    root = merge(output("a", bin=FOLDER, bin__bash=OTHER, bin__env=OTHER))
    assert root.entries["bin/sh"] == Link(f"{path_of('a')}/bin/bash")
    assert root.entries["usr/bin/env"] == Link(f"{path_of('a')}/bin/env")


def test_shell_and_env_never_dangle() -> None:
    """A dangling link of a package is no shell: another one is taken, or none."""
    dangling = Item(Kind.DANGLING)
    broken = output("a", bin=FOLDER, bin__sh=dangling, bin__env=dangling)
    assert {"bin/sh", "usr/bin/env"} & merge(broken).entries.keys() == set()
    root = merge(broken, output("b", bin=FOLDER, bin__bash=OTHER))
    assert root.entries["bin/sh"] == Link(f"{path_of('b')}/bin/bash")


def test_the_system_is_not_for_packages() -> None:
    """A package that brings a store, devices, or a file for /tmp does not get its way."""
    root = merge(output("a", nix=FOLDER, nix__store=FOLDER, dev=FOLDER, tmp=OTHER))
    assert not [name for name in root.entries if name.split("/")[0] in ("nix", "dev")]
    assert root.entries["tmp"] == Folder(0o1777)
    assert {collision.name for collision in root.collisions} == {"nix", "dev", "tmp"}


def test_a_file_for_a_system_folder() -> None:
    """A package with a file, or an alias, where a folder of the system is, loses; what the system
    and other packages have in that folder is there."""
    for item in (OTHER, Item(Kind.ALIAS, "share/etc"), Item(Kind.DANGLING)):
        root = merge(output("a", etc=item, var=item), output("b", etc=FOLDER, etc__x=OTHER))
        assert isinstance(root.entries["etc/passwd"], File)
        assert root.entries["var/tmp"] == Folder(0o1777)
        assert root.entries["etc/x"] == Link(f"{path_of('b')}/etc/x")
        assert [(c.name, c.lost) for c in root.collisions] == [("etc", "a"), ("var", "a")]


def test_system_folders_merge() -> None:
    """A package may add to the system's folders, whose modes stay, and that is no collision."""
    root = merge(output("a", tmp=FOLDER, tmp__x=OTHER, root=FOLDER, root___dot_profile=OTHER))
    assert root.entries["tmp"] == Folder(0o1777)
    assert root.entries["root"] == Folder(0o700)
    assert root.entries["tmp/x"] == Link(f"{path_of('a')}/tmp/x")
    assert root.collisions == ()


def test_a_file_that_collides_with_a_folder() -> None:
    """A file where an earlier package has a folder is noted, and the folder keeps what it has."""
    root = merge(output("a", x=FOLDER, x__y=OTHER), output("b", x=OTHER), output("c", x=FOLDER))
    assert root.entries["x"] == Folder()
    assert root.entries["x/y"] == Link(f"{path_of('a')}/x/y")
    assert [(c.name, c.kept, c.lost) for c in root.collisions] == [("x", "a", "b")]


def test_other_dangling_links_are_kept() -> None:
    """A link that leads nowhere is a package's own affair, if nobody expects it to work."""
    root = merge(output("a", share=FOLDER, share__x=Item(Kind.DANGLING)))
    assert root.entries["share/x"] == Link(f"{path_of('a')}/share/x")


def test_folders_are_no_programs() -> None:
    """A folder, or an alias of one, where a shell might be is no shell."""
    items = {"bin__bash": FOLDER, "bin__env": Item(Kind.ALIAS, "../x"), "x": FOLDER}
    root = merge(output("a", bin=FOLDER, **items))
    assert {"bin/sh", "usr/bin/env"} & root.entries.keys() == set()


def test_what_is_for_builders_is_left_out() -> None:
    """What Nix tells other builders of a package is in no image."""
    root = merge(output("a", **{"nix-support": FOLDER, "nix-support__x": OTHER}))
    assert not [name for name in root.entries if name.startswith("nix")]
    assert root.collisions == ()


def test_certificates() -> None:
    """The root says whether it has certificate authorities."""
    items = {"etc": FOLDER, "etc__ssl": FOLDER, "etc__ssl__certs": FOLDER}
    assert merge(output("a", **items, etc__ssl__certs__ca_dash=OTHER)).has_certificates is False
    bundle = Output(
        "c",
        path_of("c"),
        {
            **dict.fromkeys(("etc", "etc/ssl", "etc/ssl/certs"), FOLDER),
            "etc/ssl/certs/ca-bundle.crt": OTHER,
        },
    )
    assert merge(bundle).has_certificates


STEP = st.sampled_from(
    ["bin", "etc", "tmp", "var", "usr", "nix", "passwd", "sh", "env", "ä", "\udcff"]
)
LEAVES = [FOLDER, OTHER, Item(Kind.DANGLING), Item(Kind.ALIAS, "bin")]
NAMES = st.lists(STEP, min_size=1, max_size=3).map("/".join)


@st.composite
def outputs(draw: st.DrawFn) -> list[Output]:
    """Outputs as a store may hold them: what has something below it is a folder."""
    made = []
    for number in range(draw(st.integers(0, 4))):
        names = draw(st.sets(NAMES, max_size=8))
        listing: dict[str, Item] = {}
        for name in names:
            steps = name.split("/")
            for end in range(1, len(steps)):
                listing["/".join(steps[:end])] = FOLDER
        for name in names - listing.keys():
            listing[name] = draw(st.sampled_from(LEAVES))
        made.append(Output(f"p{number}", path_of(f"p{number}"), listing))
    return made


@given(outputs(), st.randoms())
def test_any_outputs_make_a_file_system(made: list[Output], random: object) -> None:
    """Whatever packages bring, every entry lies in a folder, entries stand in the order of their
    bytes and inside the root, and the order of listings does not matter."""
    root = make_rootfs(made)
    names = list(root.entries)
    assert names == sorted(names, key=os.fsencode)
    for name in names:
        parent = name.rpartition("/")[0]
        assert not parent or isinstance(root.entries[parent], Folder)
        assert not {"", ".", ".."} & set(name.split("/"))
        assert name.split("/")[0] != "nix"
    shuffled = [
        Output(o.package, o.path, dict(sorted(o.listing.items(), key=lambda _: random.random())))  # type: ignore[attr-defined]
        for o in made
    ]
    assert make_rootfs(shuffled) == root


@given(outputs())
def test_what_every_image_has_whatever_packages_bring(made: list[Output]) -> None:
    """Temporary folders can be written to, users are known, and a shell or ``env`` that stands
    where scripts expect it leads to a file of a package."""
    root = make_rootfs(made)
    files = {f"{o.path}/{name}" for o in made for name in o.listing if o.listing[name] == OTHER}
    assert root.entries["tmp"] == root.entries["var/tmp"] == Folder(0o1777)
    assert {"etc/passwd", "etc/group", "etc/nsswitch.conf"} <= root.entries.keys()
    for name in ("bin/sh", "usr/bin/env"):
        entry = root.entries.get(name)
        if isinstance(entry, Link) and entry.target.startswith("/"):
            assert entry.target in files


@given(outputs())
def test_nothing_is_lost_unnoticed(made: list[Output]) -> None:
    """Each file of a package is in the root file system, or it or a folder of it is noted."""
    root = make_rootfs(made)
    noted = {(collision.lost, collision.name) for collision in root.collisions}
    for output in made:
        for name, item in output.listing.items():
            steps = name.split("/")
            places = {(output.package, "/".join(steps[:end])) for end in range(1, len(steps) + 1)}
            kept = root.entries.get(name) == Link(f"{output.path}/{name}")
            assert item != OTHER or kept or places & noted
