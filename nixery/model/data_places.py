"""Data that packages bring, in places where programs find it: terminals, fonts, manual pages.

Programs know such places by how they were compiled, and it is not the same place for all: these
variables lead all of them there. What a user sets, stands in their stead.
"""

from collections.abc import Iterator, Mapping

from nixery.model.tree import Entry, File, Link, Tree

TERMINALS = ("etc/terminfo", "share/terminfo", "lib/terminfo")
"""Where packages have the descriptions of terminals."""
FONT_SETTINGS = "etc/fonts/fonts.conf"
_FONTS = "share/fonts"
_FONT_SETTINGS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir prefix="xdg">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <include ignore_missing="yes">conf.d</include>
</fontconfig>
"""
_MANUALS = "share/man"


def add_data(tree: Tree, terminals: str | None) -> None:
    """Add what packages do not bring themselves.

    :param terminals: absolute path of descriptions of terminals, if there are some in the closure.
    """
    if terminals is not None and not any(name in tree.entries for name in TERMINALS):
        tree.put("share/terminfo", Link(terminals))
    if _FONTS in tree.entries and FONT_SETTINGS not in tree.entries:
        tree.put(FONT_SETTINGS, File(_FONT_SETTINGS))


def data_variables(entries: Mapping[str, Entry], terminals: str | None) -> dict[str, str]:
    """The environment variables that lead to data.

    :param entries: of the root file system.
    :param terminals: as :func:`add_data` has it.
    """
    variables = {}
    if places := list(_terminals(entries, terminals)):
        variables["TERMINFO_DIRS"] = ":".join(places)
    if FONT_SETTINGS in entries:
        variables["FONTCONFIG_FILE"] = f"/{FONT_SETTINGS}"
    if _MANUALS in entries:
        # With what programs look at anyway behind it.
        variables["MANPATH"] = f"/usr/local/share/man:/usr/{_MANUALS}:"
    return variables


def _terminals(entries: Mapping[str, Entry], terminals: str | None) -> Iterator[str]:
    there = [name for name in TERMINALS if name in entries]
    yield from (f"/{name}" for name in there)
    # Packages may bring a single one, such as that of a terminal emulator.
    if terminals is not None and Link(terminals) not in (entries[name] for name in there):
        yield terminals
