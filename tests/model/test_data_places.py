"""Places of terminals, fonts and manual pages."""

import xml.etree.ElementTree as ElementTree

from nixery.model.data_places import ClosureData
from nixery.model.rootfs import RootFs, make_rootfs
from nixery.model.tree import Entry, File, Folder, Item, Kind, Link, Output

PATH = f"/nix/store/{'x' * 32}-x"
CLOSURE = "/nix/store/n/share/terminfo"
SETTINGS = "/nix/store/f/etc/fonts/fonts.conf"
FOLDER, OTHER = Item(Kind.FOLDER), Item(Kind.OTHER)


def root_of(*names: str, data: ClosureData | None = None) -> RootFs:
    """The root of a package that has some files."""
    folders = {
        "/".join(name.split("/")[:end]) for name in names for end in range(1, name.count("/") + 1)
    }
    items = {**dict.fromkeys(folders, FOLDER), **dict.fromkeys(names, OTHER)}
    return make_rootfs([Output("x", PATH, items)], data=data)


def included(entry: Entry) -> list[str | None]:
    """What settings of fonts include."""
    assert isinstance(entry, File)
    return [each.text for each in ElementTree.fromstring(entry.content).findall("include")]


def test_none_where_nothing_is() -> None:
    """No variable leads nowhere."""
    variables = root_of("bin/x").environment
    assert not {"TERMINFO_DIRS", "FONTCONFIG_FILE", "MANPATH"} & variables.keys()


def test_terminals_of_packages() -> None:
    """The descriptions that packages bring are found, at each of their places."""
    root = root_of("share/terminfo/x/xterm", "lib/terminfo/x/xterm")
    assert root.environment["TERMINFO_DIRS"] == "/share/terminfo:/lib/terminfo"


def test_terminals_of_a_closure() -> None:
    """Those that only the closure has are at a distribution's place; beside what packages bring,
    which may be a single one, they come behind that."""
    data = ClosureData(CLOSURE)
    root = root_of("bin/x", data=data)
    assert root.entries["share/terminfo"] == Link(CLOSURE)
    assert root.entries["usr/share"] == Link("../share")
    assert root.environment["TERMINFO_DIRS"] == "/share/terminfo"
    root = root_of("share/terminfo/m/mine", data=data)
    assert root.entries["share/terminfo"] == Folder()
    assert root.environment["TERMINFO_DIRS"] == f"/share/terminfo:{CLOSURE}"
    assert root_of("share", data=data).environment["TERMINFO_DIRS"] == CLOSURE


def test_fonts() -> None:
    """Fonts that are named are found, by the closure's rules where it has some."""
    root = root_of("share/fonts/a.ttf")
    assert root.environment["FONTCONFIG_FILE"] == "/etc/fonts/fonts.conf"
    assert included(root.entries["etc/fonts/fonts.conf"]) == ["/etc/fonts/conf.d"]
    root = root_of("bin/x", data=ClosureData(font_settings=SETTINGS))
    rules = [SETTINGS, "/nix/store/f/etc/fonts/conf.d", "/etc/fonts/conf.d"]
    assert included(root.entries["etc/fonts/fonts.conf"]) == rules


def test_a_packages_settings_of_fonts() -> None:
    """What a package says of fonts is left as it is."""
    root = root_of("etc/fonts/fonts.conf", "share/fonts/a", data=ClosureData(None, SETTINGS))
    assert root.entries["etc/fonts/fonts.conf"] == Link(f"{PATH}/etc/fonts/fonts.conf")
    assert root.environment["FONTCONFIG_FILE"] == "/etc/fonts/fonts.conf"


def test_manual_pages() -> None:
    """Manual pages that packages bring are found, besides those that are added later."""
    variables = root_of("share/man/man1/x.1").environment
    assert variables["MANPATH"] == "/usr/local/share/man:/usr/share/man:"
