"""The root file system."""

import os
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.events import Collided
from nixery.model.image import AMD64, ARM64
from nixery.model.rootfs import CLibrary, RootFs, make_rootfs
from nixery.model.tree import Data, Entry, File, Folder, Item, Kind, Link, Output

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


def test_aliases_of_what_is_lost() -> None:
    """An alias of a folder that another package keeps from being there leads to the package's own,
    and so does one of what is in no image."""
    alias = Item(Kind.ALIAS, "lib/x")
    root = merge(output("a", lib=OTHER), output("b", lib=FOLDER, lib__x=FOLDER, lib64=alias))
    assert root.entries["lib64"] == Link(f"{path_of('b')}/lib64")
    aliases = {"x": Item(Kind.ALIAS, "dev"), "y": Item(Kind.ALIAS, "nix-support")}
    root = merge(output("a", dev=FOLDER, **{"nix-support": FOLDER}, **aliases))
    assert root.entries["x"] == Link(f"{path_of('a')}/x")
    assert root.entries["y"] == Link(f"{path_of('a')}/y")


def test_usr_leads_to_nothing_that_dangles() -> None:
    """A link that leads nowhere has no link to it."""
    root = merge(output("a", bin=Item(Kind.DANGLING), lib=FOLDER))
    assert {"usr/bin", "sbin", "usr/sbin"} & root.entries.keys() == set()
    assert root.entries["usr/lib"] == Link("../lib")


def test_what_every_system_has() -> None:
    """Without any package there are writable folders, users, groups and name services."""
    root = merge()
    assert root.entries["tmp"] == root.entries["var/tmp"] == Folder(0o1777)
    assert isinstance(root.entries["root"], Folder)
    for name in ("etc/passwd", "etc/group", "etc/nsswitch.conf"):
        assert isinstance(root.entries[name], File)
    assert "bin/sh" not in root.entries
    assert "usr/bin/env" not in root.entries


@pytest.mark.parametrize("name", ["passwd", "group", "nsswitch.conf", "os-release"])
def test_packages_bring_their_own(name: str) -> None:
    """A package's own users, and what it says of the system, are kept, and that is told."""
    own = Output("a", path_of("a"), {"etc": FOLDER, f"etc/{name}": OTHER})
    root = make_rootfs([own], os_release="NAME=Nixery\n")
    assert root.entries[f"etc/{name}"] == Link(f"{path_of('a')}/etc/{name}")
    assert root.collisions == (Collided(f"etc/{name}", "a", "the system"),)


def test_what_the_image_says_of_itself() -> None:
    """It is in both places where it is looked for, whether packages have libraries or not."""
    for outputs in ([], [output("a", lib=FOLDER, lib__x=OTHER)]):
        root = make_rootfs(outputs, os_release="NAME=Nixery\n")
        assert root.entries["etc/os-release"] == File("NAME=Nixery\n")
        assert root.entries["usr/lib"] == Link("../lib")
        assert root.entries["lib/os-release"] == Link("../etc/os-release")
        assert root.collisions == ()
    own = Output("a", path_of("a"), {"usr": FOLDER, "usr/lib": FOLDER})
    root = make_rootfs([own], os_release="NAME=Nixery\n")
    assert root.entries["usr/lib/os-release"] == Link("../../etc/os-release")


def test_a_dangling_word_of_a_package() -> None:
    """A package's link that leads nowhere does not stand for what the image says of itself."""
    broken = Output("a", path_of("a"), {"etc": FOLDER, "etc/os-release": Item(Kind.DANGLING)})
    root = make_rootfs([broken], os_release="NAME=Nixery\n")
    assert root.entries["etc/os-release"] == File("NAME=Nixery\n")
    assert root.collisions == ()


def test_shell_and_env() -> None:
    """``/bin/sh`` leads to what a package provides, and ``/usr/bin`` to all that is in ``/bin``."""
    root = merge(output("a", bin=FOLDER, bin__bash=OTHER, bin__env=OTHER))
    assert root.entries["bin/sh"] == Link(f"{path_of('a')}/bin/bash")
    assert root.entries["usr/bin"] == Link("../bin")


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


@pytest.mark.parametrize("name", ["ca-bundle.crt", "ca-certificates.crt"])
def test_certificates(name: str) -> None:
    """Certificate authorities are there under all usual names, whichever a package has, and
    variables lead to them."""
    folders = dict.fromkeys(("etc", "etc/ssl", "etc/ssl/certs"), FOLDER)
    path = path_of("cacert")
    root = merge(Output("cacert", path, {**folders, f"etc/ssl/certs/{name}": OTHER}))
    link = Link(f"{path}/etc/ssl/certs/{name}")
    for place in ("certs/ca-bundle.crt", "certs/ca-certificates.crt", "cert.pem"):
        assert root.entries[f"etc/ssl/{place}"] == link
    assert root.environment["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-bundle.crt"
    assert root.environment["NIX_SSL_CERT_FILE"] == "/etc/ssl/certs/ca-bundle.crt"


def test_no_certificates() -> None:
    """Without certificate authorities, or with a link that leads nowhere, nothing says that there
    are any."""
    folders = dict.fromkeys(("etc", "etc/ssl", "etc/ssl/certs"), FOLDER)
    dangling = {**folders, "etc/ssl/certs/ca-bundle.crt": Item(Kind.DANGLING)}
    for root in (merge(), merge(Output("cacert", path_of("cacert"), dangling))):
        assert "SSL_CERT_FILE" not in root.environment
        assert not [name for name in root.entries if name.startswith("etc/ssl/cert")] or (
            "etc/ssl/certs/ca-bundle.crt" not in root.entries
        )


def test_usr_leads_to_what_is_at_the_top() -> None:
    """What scripts and Dockerfiles look for in /usr is what packages have at the top, and programs
    for the system are in sbin."""
    root = merge(output("a", bin=FOLDER, bin__x=OTHER, share=FOLDER, lib=FOLDER))
    assert root.entries["usr/bin"] == Link("../bin")
    assert root.entries["usr/share"] == Link("../share")
    assert root.entries["usr/lib"] == Link("../lib")
    assert root.entries["sbin"] == Link("bin")
    assert root.entries["usr/sbin"] == Link("../sbin")
    assert root.entries["usr/local/bin"] == Folder()
    assert "usr/include" not in root.entries
    assert root.environment["PATH"].split(":")[0] == "/usr/local/sbin"


def test_a_package_with_a_usr_of_its_own() -> None:
    """A package that has programs in usr/bin keeps them there, beside env for scripts."""
    items = {"usr": FOLDER, "usr__bin": FOLDER, "usr__bin__x": OTHER}
    root = merge(output("a", bin=FOLDER, bin__env=OTHER, **items))
    assert root.entries["usr/bin/x"] == Link(f"{path_of('a')}/usr/bin/x")
    assert root.entries["usr/bin/env"] == Link(f"{path_of('a')}/bin/env")


C_LIBRARY = CLibrary(
    "/nix/store/c/lib/ld", {"libc.so.6": "/nix/store/c/lib/libc.so.6"}, "/nix/store/l"
)


def test_the_loader_is_where_programs_made_elsewhere_have_it() -> None:
    """Loader, libraries and locale of the C library are in the places of a distribution, by the
    ABI of each architecture."""
    amd64 = make_rootfs([], AMD64, C_LIBRARY)
    assert amd64.entries["lib64/ld-linux-x86-64.so.2"] == Link("/nix/store/c/lib/ld")
    assert amd64.entries["lib/x86_64-linux-gnu/libc.so.6"] == Link("/nix/store/c/lib/libc.so.6")
    assert amd64.entries["lib/locale/C.utf8"] == Link("/nix/store/l")
    assert amd64.entries["usr/lib"] == Link("../lib")
    assert amd64.environment["LANG"] == "C.UTF-8"
    arm64 = make_rootfs([], ARM64, C_LIBRARY)
    assert arm64.entries["lib/ld-linux-aarch64.so.1"] == Link("/nix/store/c/lib/ld")
    assert "lib/aarch64-linux-gnu/libc.so.6" in arm64.entries


def test_the_loader_is_found_behind_an_alias() -> None:
    """Where packages have lib64 → lib, the loader is there by both names."""
    aliased = output("a", lib=FOLDER, lib64=Item(Kind.ALIAS, "lib"))
    root = make_rootfs([aliased], AMD64, C_LIBRARY)
    assert root.entries["lib64"] == Link("lib")
    assert root.entries["lib/ld-linux-x86-64.so.2"] == Link("/nix/store/c/lib/ld")


def test_the_c_library_is_found_by_those_who_ask_for_it() -> None:
    """It is beside the loader; where there is ldconfig, what that prints has it too."""
    plain = make_rootfs([], AMD64, C_LIBRARY)
    assert plain.entries["lib64/libc.so.6"] == Link("/nix/store/c/lib/libc.so.6")
    assert "etc/ld.so.cache" not in plain.entries
    listed = make_rootfs([output("a", bin=FOLDER, bin__ldconfig=OTHER)], AMD64, C_LIBRARY)
    cache = listed.entries["etc/ld.so.cache"]
    assert isinstance(cache, Data)
    assert b"/lib/x86_64-linux-gnu/libc.so.6" in cache.content


def test_a_loader_that_is_told_of_the_libraries() -> None:
    """Where nix-ld is named, it is in the loader's place, and leads to the C library's own loader
    and the libraries, with its variables and without; a dangling link of that name is none."""
    items = {"libexec": FOLDER, "libexec/nix-ld": OTHER}
    root = make_rootfs([Output("nix-ld", path_of("l"), items)], AMD64, C_LIBRARY)
    assert root.entries["lib64/ld-linux-x86-64.so.2"] == Link(f"{path_of('l')}/libexec/nix-ld")
    assert root.environment["NIX_LD"] == "/nix/store/c/lib/ld"
    assert root.environment["NIX_LD_LIBRARY_PATH"] == "/lib/x86_64-linux-gnu"
    folder = "run/current-system/sw/share/nix-ld/lib"
    assert root.entries[f"{folder}/ld.so"] == Link("/nix/store/c/lib/ld")
    assert root.entries[f"{folder}/libc.so.6"] == root.entries["lib/x86_64-linux-gnu/libc.so.6"]
    items["libexec/nix-ld"] = Item(Kind.DANGLING)
    root = make_rootfs([Output("nix-ld", path_of("l"), items)], AMD64, C_LIBRARY)
    assert root.entries["lib64/ld-linux-x86-64.so.2"] == Link("/nix/store/c/lib/ld")
    assert "NIX_LD" not in root.environment
    assert folder not in root.entries


def test_no_locale_without_its_data() -> None:
    """LANG names a locale only if the C library has it: programs complain otherwise."""
    assert "LANG" not in merge().environment
    assert "LANG" not in make_rootfs([], AMD64, CLibrary("/ld", {})).environment


def test_time_zones() -> None:
    """A variable leads C libraries to the time zones, where a package brings them."""
    zones = output("tzdata", share=FOLDER, share__zoneinfo=FOLDER)
    assert merge(zones).environment["TZDIR"] == "/usr/share/zoneinfo"
    assert "TZDIR" not in merge().environment


def test_users_have_homes() -> None:
    """The users that containers are run as are known, with homes that they may write to."""
    root = merge()
    passwd = root.entries["etc/passwd"]
    assert isinstance(passwd, File)
    for line in passwd.content.splitlines():
        _, _, user, _, _, home, _ = line.split(":")
        if home != "/nonexistent":
            entry = root.entries[home.removeprefix("/")]
            assert isinstance(entry, Folder)
            assert entry.owner == int(user)


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


@st.composite
def real_outputs(draw: st.DrawFn) -> list[Output]:
    """Outputs whose aliases lead to folders of their own, by relative paths."""
    made = []
    for output in draw(outputs()):
        listing = dict(output.listing)
        folders = sorted(name for name in listing if listing[name] == FOLDER)
        for name in [name for name in listing if listing[name].kind is Kind.ALIAS]:
            del listing[name]
            if folders:
                target = os.path.relpath(draw(st.sampled_from(folders)), os.path.dirname(name))
                listing[name] = Item(Kind.ALIAS, target)
        made.append(Output(output.package, output.path, listing))
    return made


def leads(entries: Mapping[str, Entry], there: set[str], name: str) -> bool:
    """Whether a name leads to something of the image, as a kernel follows it."""
    at, rest = "/", name.split("/")
    for _ in range(1000):
        if not rest:
            return True
        step, *rest = rest
        at = os.path.normpath(os.path.join(at, step))
        if at.startswith("/nix/store/"):
            return os.path.normpath("/".join([at, *rest])) in there
        entry = entries.get(at[1:])
        if isinstance(entry, Link):
            at, rest = os.path.dirname(at), [*entry.target.split("/"), *rest]
            if entry.target.startswith("/"):
                at = "/"
        elif entry is None and at != "/" and at not in ("/nix", "/nix/store"):
            return False
    return False


@given(real_outputs(), st.sampled_from([None, C_LIBRARY]))
def test_no_link_dangles_or_leads_outside(made: list[Output], c_library: CLibrary | None) -> None:
    """Every link leads to a file or folder of the root file system or of the store paths in it,
    but for those that are broken in their packages, and what lies behind these."""
    every = {f"{o.path}/{name}": item for o in made for name, item in o.listing.items()}
    there = {path for path, item in every.items() if item.kind is not Kind.DANGLING}
    if c_library is not None:
        there |= {c_library.loader, str(c_library.locale), *c_library.libraries.values()}
    root = make_rootfs(made, AMD64, c_library)
    broken = {path for path, item in every.items() if item.kind is Kind.DANGLING}
    for name, entry in root.entries.items():
        if isinstance(entry, Link) and entry.target not in broken:
            assert leads(root.entries, there, name), (name, entry)


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


@given(real_outputs())
def test_what_every_image_has_whatever_packages_bring(made: list[Output]) -> None:
    """Temporary folders can be written to, users are known, and a shell or ``env`` that stands
    where scripts expect it leads to a file of a package."""
    root = make_rootfs(made)
    files = {f"{o.path}/{name}" for o in made for name in o.listing if o.listing[name] != FOLDER}
    assert root.entries["tmp"] == root.entries["var/tmp"] == Folder(0o1777)
    assert {"etc/passwd", "etc/group", "etc/nsswitch.conf"} <= root.entries.keys()
    for name in ("bin/sh", "usr/bin/env"):
        entry = root.entries.get(name)
        if name == "usr/bin/env" and isinstance(root.entries.get("usr/bin"), Link):
            entry = root.entries.get("bin/env")
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
