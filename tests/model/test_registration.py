"""The registration of store paths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.registration import ValidPath, parse_registration

A, B = (f"/nix/store/{letter * 32}-x" for letter in "ab")
HASH = "0f" * 32


def printed(path: ValidPath, deriver: str = "") -> str:
    """A registration as Nix prints it."""
    lines = [path.path, path.hash, str(path.size), deriver, str(len(path.references))]
    return "".join(f"{line}\n" for line in (*lines, *path.references))


PATHS = st.builds(
    ValidPath,
    st.sampled_from((A, B)),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, 2**60),
    st.sets(st.sampled_from((A, B))).map(lambda paths: tuple(sorted(paths))),
)


@given(st.lists(PATHS, unique_by=lambda path: path.path), st.sampled_from(("", f"{A}.drv")))
def test_what_is_printed_is_read(paths: list[ValidPath], deriver: str) -> None:
    """All that Nix prints of paths is read, in the order of the paths, but for who made them."""
    text = "".join(printed(path, deriver) for path in paths)
    names = sorted(path.path for path in paths)
    found = parse_registration(text, names)
    assert sorted(found, key=repr) == sorted(paths, key=repr)
    assert [path.path for path in found] == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        printed(ValidPath(B, HASH, 1, ())),
        printed(ValidPath(A, HASH, 1, ())) * 2,
        printed(ValidPath(A, HASH, 1, (B,))).removesuffix(f"{B}\n"),
        printed(ValidPath(A, HASH[1:], 1, ())),
        printed(ValidPath(A, HASH, 1, (f"{B}/bin",))),
        f"{A}\n{HASH}\nmuch\n\n0\n",
        f"{A}\n{HASH}\n",
    ],
    ids=["nothing", "another", "twice", "cut", "hash", "reference", "size", "short"],
)
def test_anything_else_is_refused(text: str) -> None:
    """What is cut, of another form, or about other paths, is not taken for a registration."""
    with pytest.raises(ValueError, match=r"regist|invalid literal"):
        parse_registration(text, [A])
