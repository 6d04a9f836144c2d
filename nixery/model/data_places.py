"""Data that programs look for, in places where they find it: terminals, fonts, manual pages.

Programs know such places by how they were compiled, and it is not the same place for all: these
variables lead all of them there. What a user sets, stands in their stead.
"""

from collections.abc import Iterator, Mapping

import attrs

from nixery.model.tree import Entry, File, Link, Tree

_TERMINALS = ("etc/terminfo", "share/terminfo", "lib/terminfo")
FONT_SETTINGS = "etc/fonts/fonts.conf"
"""Where fontconfig has its settings."""
_FONT_RULES = "conf.d"
_FONTS = "share/fonts"
_FONT_SETTINGS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir prefix="xdg">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
{included}</fontconfig>
"""
_INCLUDED = '  <include ignore_missing="yes">{}</include>\n'
_MANUALS = "share/man"


@attrs.frozen
class ClosureData:
    """What a closure has, whether the packages that are named bring it or others.

    :param terminals: absolute path of the folder with descriptions of terminals, if there is one.
    :param font_settings: absolute path of fontconfig's settings, if there are some.
    """

    terminals: str | None = None
    font_settings: str | None = None


def add_data(tree: Tree, data: ClosureData) -> None:
    """Add what the packages that are named do not bring themselves."""
    if data.terminals is not None and not any(name in tree.entries for name in _TERMINALS):
        tree.put("share/terminfo", Link(data.terminals))
    if FONT_SETTINGS in tree.entries or not (data.font_settings or _FONTS in tree.entries):
        return
    settings = [data.font_settings] if data.font_settings else []
    # Settings may name the folder of rules by its place in a distribution. What is included twice
    # counts once.
    rules = [_rules_beside(each) for each in (*settings, f"/{FONT_SETTINGS}")]
    included = "".join(map(_INCLUDED.format, (*settings, *rules)))
    tree.put(FONT_SETTINGS, File(_FONT_SETTINGS.format(included=included)))


def _rules_beside(settings: str) -> str:
    return f"{settings.rpartition('/')[0]}/{_FONT_RULES}"


def data_variables(entries: Mapping[str, Entry], data: ClosureData) -> dict[str, str]:
    """The environment variables that lead to data.

    :param entries: of the root file system.
    """
    variables = {}
    if places := list(_terminals(entries, data.terminals)):
        variables["TERMINFO_DIRS"] = ":".join(places)
    if FONT_SETTINGS in entries:
        variables["FONTCONFIG_FILE"] = f"/{FONT_SETTINGS}"
    if _MANUALS in entries:
        # With what programs look at anyway behind it.
        variables["MANPATH"] = f"/usr/local/share/man:/usr/{_MANUALS}:"
    return variables


def _terminals(entries: Mapping[str, Entry], closure: str | None) -> Iterator[str]:
    there = [name for name in _TERMINALS if name in entries]
    yield from (f"/{name}" for name in there)
    # Packages may bring a single one, such as that of a terminal emulator.
    if closure is not None and Link(closure) not in (entries[name] for name in there):
        yield closure
