"""What texts tell of this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.paths import hide_paths, without_location, without_trace

HASH = "a" * 32
SHOWN = {
    "opening file '/home/me/set/x.nix': No such file": "opening file '…/x.nix': No such file",
    'at "/srv/a b/c"': 'at "…/c"',
    "“/srv/x”, ‘/srv/y’ and `/srv/z`": "“…/x”, ‘…/y’ and `…/z`",
    "denied (/a/b → /c/d)": "denied",
    "/etc/nix/nix.conf:3: no": "…/nix.conf:3: no",
    "unable to read file:///srv/x and git+file:///srv/y": "unable to read …/x and …/y",
    "path:/srv/set?dir=x": "…/set?dir=x",
    f"'/store/nix/store/{HASH}-x-1.drv.chroot/nix/store/{HASH}-x-1/fifo'": "'x-1/fifo'",
    f"/nix/store/{HASH}-source/default.nix": "source/default.nix",
}
KEPT = [
    *("https://example.com/a/b?c=d", "a/b/c", "and/or", "1 / 2", "/", "it's '/'", "./x/y"),
    *("git@example.com:a/b", "~/x/y", "ssh://git@example.com/a/b"),
]


@pytest.mark.parametrize(("text", "shown"), SHOWN.items())
def test_files_are_named_by_their_last_steps(text: str, shown: str) -> None:
    """Whatever quotes are around it, a path is shown by its last step, a store path by its name."""
    assert hide_paths(text) == shown
    assert hide_paths(shown) == shown


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_path_stays(text: str) -> None:
    """URLs, relative paths and slashes stay as they are."""
    assert hide_paths(text) == text


@given(
    st.lists(st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True), min_size=2, max_size=5),
    st.sampled_from(
        ["'{}'", '"{}"', "‘{}’", "“{}”", "`{}`", "(in {})", " {} ", "{}:1:2", "{},", "{}"]
    ),
)
def test_no_folder_is_named(steps: list[str], around: str) -> None:
    """No folder of a path is left, wherever in a text it stands."""
    path = "/" + "/".join(steps)
    shown = hide_paths("x " + around.format(path) + " y")
    assert path not in shown
    assert f"…/{steps[-1]}" in shown


@pytest.mark.parametrize("word", ["'/", '"/a', "/nix/store/", " /", "file://", "path:", "‘/x’"])
def test_long_texts(word: str) -> None:
    """However long a text is, it is read within moments: time that grows with its square would
    be hours."""
    assert hide_paths(word * (1_000_000 // len(word)))


@pytest.mark.parametrize(
    "place", ["'/store/x'", '"/store/x"', '"/store/x"\'', "‘/store/a b’", "/store/x"]
)
def test_places_at_the_end(place: str) -> None:
    """Where Nix did not find an output is left out, whatever quotes are around it."""
    assert without_location(f"no output 'out' at {place}") == "no output 'out'"
    assert without_location("look at it") == "look at it"


def test_traces() -> None:
    """Positions, steps of a trace and lines of source files are left out."""
    text = (
        "warning: it is old\n       … while calling the 'throw' builtin\n"
        "         at /set.nix:5:1:\n            5|  x = secret\n             |      ^\n"
        "       at «string»:1:2\n       second line, at noon"
    )
    assert without_trace(text) == "warning: it is old\n       second line, at noon"
