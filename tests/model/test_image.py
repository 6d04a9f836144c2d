"""Names and tags."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.image import (
    AMD64,
    ARM64,
    LIBRARY,
    MAX_NAME_LENGTH,
    META,
    SHELL,
    exact_image_name,
    image_name,
    name_parts,
    official_name,
    parse_image,
    parse_name,
    platform_of,
    spellings,
)
from nixery.model.request_errors import NameInvalid, TagInvalid

COMPONENT = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+){0,3}"
# What means something else than a package, by itself or at the beginning.
components = st.from_regex(COMPONENT, fullmatch=True).filter(lambda c: c not in (*META, LIBRARY))
names = st.lists(components, min_size=1, max_size=6).filter(
    lambda parts: len("/".join(parts)) <= MAX_NAME_LENGTH
)


@given(names, st.randoms())
def test_order_and_repeats_do_not_matter(parts: list[str], random: object) -> None:
    """Images are equal whatever the order of their packages, and how often one is named."""
    shuffled = sorted(parts, key=lambda _: random.random())  # type: ignore[attr-defined]
    image = parse_image("/".join(parts), "latest")
    assert image.packages == tuple(sorted(set(parts)))
    if len("/".join(shuffled + parts[:1])) <= MAX_NAME_LENGTH:
        assert parse_image("/".join(shuffled + parts[:1]), "latest") == image


@given(names, st.booleans(), st.booleans())
def test_names_of_images(parts: list[str], shell: bool, arm64: bool) -> None:
    """An image's own name asks for the same image."""
    meta = ["shell"] * shell + ["arm64"] * arm64
    if len("/".join([*meta, *parts])) <= MAX_NAME_LENGTH:
        image = parse_image("/".join([*meta, *parts]), "v1")
        assert parse_image(image.name, "v1") == image


# The distribution specification's grammar of names, as it stands there.
SPECIFIED = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")


@given(st.text(st.sampled_from("ab09._-/A \n"), max_size=12).filter(lambda t: "arm" not in t))
def test_the_grammar_is_the_specification(name: str) -> None:
    """What the specification's grammar takes is a name, and nothing else is."""
    if SPECIFIED.fullmatch(name):
        assert parse_name(name) == name.split("/")
        assert parse_image(name, "latest").packages == tuple(sorted(set(name.split("/"))))
    else:
        with pytest.raises(NameInvalid):
            parse_image(name, "latest")


def test_limits() -> None:
    """A name of the greatest length is taken; repeats do not count."""
    assert parse_image("a" * MAX_NAME_LENGTH, "latest").packages == ("a" * MAX_NAME_LENGTH,)
    assert parse_image("/".join(["a"] * 127), "latest").packages == ("a",)


def test_own_packages() -> None:
    """What ``shell`` brings along does not count as named, unless shell is not."""
    assert parse_image("shell/git/nano", "latest").own == ["git"]
    assert parse_image("git/nano", "latest").own == ["git", "nano"]


@pytest.mark.parametrize("name", ["hello", "python3packages.six", "7zz", "shell"])
def test_official_names(name: str) -> None:
    """``library/NAME`` may be ``NAME``; meta-packages can be nothing else."""
    assert official_name(f"library/{name}") == name
    image = parse_image(f"library/{name}", "v1")
    assert (image.official or image) == parse_image(name, "v1")


@pytest.mark.parametrize(
    "name",
    [
        "library",
        "library/library",
        "library/a/b",
        "a/b",
        "shell/library/a",
        "libraries/a",
        "a/library",
    ],
)
def test_other_names_with_libraries(name: str) -> None:
    """No other name has an official one."""
    assert official_name(name) == ""
    assert parse_image(name, "latest").official is None


@pytest.mark.parametrize("name", ["shell/arm64/git", "arm64/shell/git", "arm64/arm64/shell/git"])
def test_meta_packages_in_any_order(name: str) -> None:
    """Meta-packages come first, in any order, and say what they stand for."""
    image = parse_image(name, "latest")
    assert image.system == ARM64
    assert image.architecture == "arm64"
    assert image.packages == tuple(sorted([*SHELL, "git"]))


def test_names_without_platform() -> None:
    """A name that says no platform is for each; on one of them, it is what that one's own means."""
    image = parse_image("git", "latest")
    assert not image.has_platform
    for system, platform in ((AMD64, "amd64"), (ARM64, "arm64")):
        own = parse_image(f"{platform}/git", "latest")
        assert own.has_platform
        assert image.on(system) == own
        assert (own.system, own.architecture, own.shell) == (system, platform, False)
        assert platform_of(system) == f"linux/{platform}"
    assert [image.on(system).name for system in (AMD64, ARM64)] == ["git", "arm64/git"]
    assert image.names == ["git", "arm64/git"]
    assert image.on(AMD64).names == ["git"]


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "a//b", "/a", "a/", "A", "a/B", "-a", "a-", ".a", "a.", "a..b", "a___b", "_a"),
        *("a b", "a\n", "a\0", "ä", "a:b", "a@b", "../a", "a/..", "--option", "$(x)", "a;b", "%2e"),
        *("a" * 256,),
        *("arm64", "arm64/arm64", "git/shell", "git/arm64", "shell/git/arm64", "shell/git/shell"),
        *("amd64", "git/amd64", "amd64/arm64/git", "arm64/shell/amd64/git", "library/amd64"),
    ],
)
def test_names_that_are_refused(name: str) -> None:
    """What the grammar or its limits refuse is no name, and the error says why."""
    with pytest.raises(NameInvalid) as caught:
        parse_image(name, "latest")
    assert caught.value.reason


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True))
def test_tags(tag: str) -> None:
    """Every tag of the specification's grammar is taken as it is."""
    assert parse_image("git", tag).tag == tag


@pytest.mark.parametrize(
    "tag", ["", "-x", ".x", "a/b", "a b", "a\n", "HEAD~1", "a" * 129, "ä", "@{1}"]
)
def test_tags_that_are_refused(tag: str) -> None:
    """What is no tag is refused."""
    with pytest.raises(TagInvalid):
        parse_image("git", tag)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("ShellCheck", "shellcheck"),
        ("_7zz", "7zz"),
        ("gtk+", ""),
        ("_private", ""),
        ("a-b", "a-b"),
        ("a.b", ""),
    ],
)
def test_names_of_attributes(attribute: str, name: str) -> None:
    """An attribute is suggested by a name that can be asked for, or not at all."""
    assert image_name(attribute) == name


@pytest.mark.parametrize(
    ("step", "attributes"),
    [
        ("git", ["git"]),
        ("7zz", ["7zz", "_7zz"]),
        ("iostringy--1-2-3", ["iostringy--1-2-3", "IOStringy"]),
        ("7z--2", ["7z--2", "7Z", "_7z--2", "_7Z"]),
        *((odd, [odd]) for odd in ("a--0", "a--2", "a--2-1", "ab--1-1", "ab--1-", "ab--")),
    ],
)
def test_spellings(step: str, attributes: list[str]) -> None:
    """A step of a name means itself, itself behind an underscore, or with capital letters."""
    assert spellings(step) == attributes


@given(st.from_regex(r"[a-zA-Z0-9]{1,12}", fullmatch=True))
def test_every_case_can_be_spelled(attribute: str) -> None:
    """Of attributes that differ in case alone, each has a name that means it."""
    assert attribute in spellings(exact_image_name(attribute))


@pytest.mark.parametrize(
    ("package", "parts"),
    [
        ("bashInteractive", {"bashinteractive", "shell", "ci"}),
        ("curl", {"curl", "ci"}),
        ("python3Packages.six", {"python3packages.six"}),
    ],
)
def test_parts_of_names_with_a_package(package: str, parts: set[str]) -> None:
    """A package is in images that name it, or a meta-package that stands for it."""
    assert name_parts(package) == parts
