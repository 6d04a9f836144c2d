"""Finding packages by words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixery.model.package_set import Package
from nixery.search.ranking import Index, words

TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
NAME = st.text(alphabet="abcXYZ019_-+.é", min_size=1, max_size=6)
PACKAGES = st.lists(
    st.builds(
        Package,
        path=st.tuples(NAME) | st.tuples(NAME, NAME),
        image=st.just("") | st.just("some-image"),
        name=NAME,
        pname=NAME,
        description=TEXT,
        program=st.just("") | NAME,
        programs=st.lists(NAME, max_size=3).map(tuple),
    ),
    max_size=15,
    unique_by=lambda package: package.path,
)


def package(name: str, description: str = "", **fields: str) -> Package:
    return Package((name,), image=name.lower(), description=description, **fields)  # type: ignore[arg-type]


def found(packages: list[Package], query: str, limit: int = 100) -> list[str]:
    return [package.attribute for package in Index.of(packages).search(query, limit)]


SHELLS = [
    package("mybash", "bash as I like it"),
    package("bash", "the shell"),
    package("bash-completion", "bash completes"),
    package("nix-bash", "something else"),
    package("rebashed", "something else"),
    package("shellish", "something else", program="bash"),
    package("many", "what bashes"),
    package("one", "a shell (bash)"),
]


@settings(deadline=None)
@given(PACKAGES, st.booleans())
def test_found_by_each_word(packages: list[Package], upper: bool) -> None:
    """Every package is found by each of its names, programs and words, in whichever case."""
    index = Index.of(packages)
    assert len(index) == len(packages)
    for package in packages:
        known = {package.attribute, package.name, package.pname, package.program}
        for word in known | set(package.programs) | words(package.description):
            query = word.upper() if upper and word.isascii() else word
            assert package in index.search(query, len(packages))


@settings(deadline=None)
@given(PACKAGES, st.lists(NAME, max_size=4))
def test_all_words_must_fit(packages: list[Package], asked: list[str]) -> None:
    """A query of several words finds what each of them finds, and nothing else."""
    index = Index.of(packages)
    together = {package.path for package in index.search(" ".join(asked), 100)}
    apart = [{package.path for package in index.search(word, 100)} for word in asked]
    assert together == {package.path for package in packages}.intersection(*apart)


@settings(deadline=None)
@given(PACKAGES, NAME, st.integers(0, 20))
def test_limit(packages: list[Package], query: str, limit: int) -> None:
    """A limit cuts the list, and changes nothing of what is left."""
    index = Index.of(packages)
    assert index.search(query, limit) == index.search(query, 100)[:limit]


def test_order() -> None:
    """First comes what is named so, then prefixes, words, parts, programs, descriptions."""
    assert found(SHELLS, "bash") == [
        *("bash", "bash-completion", "nix-bash", "mybash", "rebashed"),
        *("shellish", "one", "many"),
    ]


def test_equals_in_order() -> None:
    """Among equals the least nested is first, then the shortest name, then the alphabet."""
    nested = Package(("set", "tool"), image="set.tool", description="a tool")
    others = [package("toolbox"), package("toolkit"), package("tools"), nested]
    hidden = Package(("ToolS",), description="no image can ask for it")
    assert found([*others, hidden], "tool") == ["set.tool", "tools", "toolbox", "toolkit", "ToolS"]


def test_no_word() -> None:
    """A query without a word lists all, in order."""
    assert found([package("bb"), package("a"), package("c")], " ", 2) == ["a", "c"]


def test_nothing() -> None:
    """Words that no package has find nothing; nor does an empty index."""
    assert found(SHELLS, "bash frobnicate") == []
    assert found([], "bash") == found([], "") == []


def test_programs() -> None:
    """A package is found by the programs in its bin/."""
    packages = [package("ripgrep"), Package(("coreutils",), programs=("cat", "LS"))]
    assert found(packages, "ls") == ["coreutils"]
    assert found(packages, "grep") == ["ripgrep"]


def test_many() -> None:
    """Words that most packages hold are as good as others: numbers beyond one machine word."""
    packages = [package(f"p{number}", f"thing number{number}") for number in range(3000)]
    index = Index.of(packages)
    assert len(index.search("thing", 5000)) == 3000
    assert [p.attribute for p in index.search("thing number2999", 5)] == ["p2999"]
    assert [p.attribute for p in index.search("p29", 2)] == ["p29", "p290"]


@settings(deadline=None)
@given(PACKAGES, NAME)
def test_dump(packages: list[Package], query: str) -> None:
    """An index that was written and loaded finds the same."""
    index = Index.of(packages)
    loaded = Index.load(index.dump())
    assert loaded.search(query, 100) == index.search(query, 100)
    assert list(loaded.all_packages()) == index.search("", 100)


@pytest.mark.parametrize("cut", [0, 3, 50, -1])
def test_damaged(cut: int) -> None:
    """An index that was cut is none."""
    with pytest.raises(ValueError):  # noqa: PT011
        Index.load(Index.of(SHELLS).dump()[:cut])


@given(st.binary())
def test_no_index(dumped: bytes) -> None:
    """Other data is not a package either."""
    with pytest.raises(ValueError):  # noqa: PT011
        Index.load(dumped)


def test_hostile_words() -> None:
    """Line ends, tabs and the last of all characters in a query find nothing, and harm nothing."""
    for query in ("\x00", "bash\U0010ffff", "\U0010ffff", "\x1c", "a\nb", "\ud800"):
        assert found(SHELLS, query) in ([], found(SHELLS, " ".join(query.split())))


SET = [
    package("ripgrep", program="rg"),
    Package(("python3Packages", "six"), image="python3packages.six", name="python3.11-six-1.16"),
    Package(("python3Packages", "hidden+six"), pname="six"),
    Package(("procps",), image="procps", programs=("free", "ps")),
    Package(("busybox",), image="busybox", programs=("ls", "ps")),
    package("python312"),
    Package(("jdk",), image="jdk", pname="openjdk", name="openjdk-21"),
    package("mainly", program="ps"),
    Package(("inner", "tool"), image="inner.tool", pname="tool", program="tool"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("rg", ["ripgrep (it has the program rg)"]),
        ("six", ["python3packages.six"]),
        ("pythonpackages.six", ["python3packages.six"]),
        ("ps", [f"{name} (it has the program ps)" for name in ("mainly", "procps", "busybox")]),
        ("python3.12", ["python312"]),
        ("python-312", ["python312"]),
        ("tool", ["inner.tool"]),
        ("openjdk", ["jdk"]),
        ("openjdk-21", ["jdk"]),
        *((name, []) for name in ("wget", "python312", "p", "", "ripgre", "it has")),
    ],
)
def test_what_is_meant(name: str, meant: list[str]) -> None:
    """A name stands for packages that are called so elsewhere in the set, or whose program it is,
    best as the main one; never for itself, nor for what no image can ask for."""
    assert [str(each) for each in Index.of(SET).meant(name, 3)] == meant


@settings(deadline=None)
@given(PACKAGES, NAME, st.integers(0, 5))
def test_whatever_is_meant(packages: list[Package], name: str, limit: int) -> None:
    """All that is suggested can be asked for, has the program that it is said to have, and a limit
    cuts the list."""
    index = Index.of(packages)
    every = index.meant(name.lower(), 100)
    assert index.meant(name.lower(), limit) == every[:limit]
    for each in every:
        assert each.name not in ("", name.lower())
        assert each.program.lower() in ("", name.lower())
