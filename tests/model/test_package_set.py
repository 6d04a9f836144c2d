"""What Nix tells of a set's packages, and the names that images ask for them by."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import parse_image
from nixery.model.package_set import Package, parse_told, told_path, with_image_names


def told(said: Any) -> bytes:
    return b"trace: @nixery@" + json.dumps(said, ensure_ascii=False).encode("utf-8") + b"@nixery@"


def images(*attributes: str) -> list[str]:
    """The image names of packages that lie in one set, named by their attributes."""
    paths = [json.loads(a) if a.startswith("[") else [a] for a in attributes]
    visited = {tuple(path[:end]) for path in paths for end in range(1, len(path) + 1)}
    lines = [told(list(path)) for path in visited] + [told({"path": path}) for path in paths]
    return [package.image for package in with_image_names(parse_told(lines))]


def test_parse() -> None:
    """Paths are what was looked at, objects are packages; other lines are others' business."""
    lines = [
        b"warning: something",
        told(["hello"]),
        told({"path": ["hello"], "name": "hello-2.10-3", "description": "says hello"}),
        told(["lib"]),
        b"trace: @nixery@[1]@nixery@",
        b"trace: @nixery@{]@nixery@",
        b"trace: @nixery@" + b"[" * 100_000 + b"@nixery@",
        b"trace: @nixery@[]@nixery@",
    ]
    parsed = parse_told(lines)
    assert parsed.visited == [("hello",), ("lib",)]
    assert parsed.found == [
        Package(
            ("hello",),
            name="hello-2.10-3",
            pname="hello",
            version="2.10-3",
            description="says hello",
        )
    ]


def test_told_twice() -> None:
    """What two runs tell counts once."""
    assert len(parse_told([told({"path": ["a"]})] * 2).found) == 1


def test_last_path() -> None:
    """A line that tells a path is told from one that tells a package."""
    assert told_path(told(["a", "b"])) == ("a", "b")
    assert told_path(told({"path": ["a"]})) is None
    assert told_path(b"error: [") is None


def test_hostile_text() -> None:
    """Texts become one line that a terminal can print; what is no text is left out."""
    said = {"path": ["x"], "description": " a\nb\x1b[31m\ud800 \x00", "name": 3, "version": ["1"]}
    line = b"trace: @nixery@" + json.dumps(said).encode("ascii") + b"@nixery@"
    [package] = parse_told([line, b"trace: @nixery@[\xff]@nixery@"]).found
    assert (
        package.description
        == "a b\N{REPLACEMENT CHARACTER}[31m"
        + "\N{REPLACEMENT CHARACTER} "
        + ("\N{REPLACEMENT CHARACTER}")
    )
    assert package.name == package.version == ""


@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.lists(st.text())))
def test_any_object(said: dict[str, Any]) -> None:
    """Whatever an object holds, it is a package or none."""
    for package in parse_told([told({"path": ["x"], **said}), told(said)]).found:
        assert all(text.isprintable() for text in (*package.path, package.name, package.homepage))


@given(st.text(), st.lists(st.text()).map(tuple), st.booleans())
def test_encode(text: str, programs: tuple[str, ...], available: bool) -> None:
    """A package that was written is read again."""
    lists: dict[str, Any] = {"programs": programs, "outputs": programs[:1], "licences": programs}
    package = Package((text, "b"), description=text, available=available, **lists)
    assert Package.decode(package.encode()) == package
    assert b"\n" not in package.encode()


@pytest.mark.parametrize("line", [b"", b"[]", b"{}x", b'{"odd": 1}', b"[" * 100_000, b"3"])
def test_decode_refuses(line: bytes) -> None:
    """What was never written so is refused."""
    with pytest.raises(ValueError):  # noqa: PT011
        Package.decode(line)


@pytest.mark.parametrize(
    ("attribute", "image"),
    [
        ("hello", "hello"),
        ("bashInteractive", "bashinteractive"),
        ("_7zz", "7zz"),
        ('["python3Packages", "six"]', "python3packages.six"),
        ('["haskellPackages", "_3d"]', "haskellpackages.3d"),
        ("gtk+", ""),
        ("a.b", ""),
        ("shell", ""),
        ("arm64", ""),
        ("größe", ""),
        ("n" * 256, ""),
        ('["a.b", "c"]', ""),
    ],
)
def test_image_names(attribute: str, image: str) -> None:
    """A name asks for an attribute as the set is asked; some attributes no name can ask for."""
    assert images(attribute) == [image]
    if image:
        assert parse_image(image, "latest").packages == (image,)


def test_in_the_way() -> None:
    """An attribute whose letters another one has in another case is named by its capital ones."""
    assert images("foo", "Foo") == ["foo", "foo--1"]
    assert images("fOO", "Foo") == ["foo--2-3", "foo--1"]
    assert images("_7z", "_7Z") == ["7z", "7z--2"]
    assert images('["A", "x"]', '["a", "x"]') == ["a--1.x", "a.x"]
    assert images("aB", "Ab", "ab--2") == ["", "ab--1", "ab--2"]
    assert images('["A", "x"]', '["B", "x"]') == ["a.x", "b.x"]
