"""Who may pull what."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.request_errors import NameInvalid
from nixery.model.rules import ANONYMOUS, Patterns, Rules, Who

ALICE, BOB = Who("alice"), Who("bob")

STEPS = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
PATHS = st.lists(STEPS, min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize("who", [ANONYMOUS, ALICE])
def test_without_rules_everything_is_allowed(who: Who) -> None:
    """Where nothing is said, everybody may pull everything."""
    assert Rules().allow(who, "shell/arm64/git", "any")


def test_deny_wins() -> None:
    """What is denied, to everyone or to the user, no other pattern allows."""
    rules = Rules(Patterns(deny=("a",)), None, {"alice": Patterns(allow=("*",), deny=("b",))})
    assert [rules.allow(ALICE, name, None) for name in "abc"] == [False, False, True]
    assert [rules.allow(BOB, name, None) for name in "abc"] == [False, True, True]


def test_somebody() -> None:
    """What anonymous clients, some user, or one who is not named may pull, somebody may."""
    rules = Rules(
        Patterns(allow=("a",), deny=("d",)),
        Patterns(allow=("b",)),
        {"alice": Patterns(allow=("c", "d"), deny_tags=("old",))},
    )
    assert [rules.allow_somebody(name, "new") for name in "abcde"] == [True] * 3 + [False] * 2
    assert [rules.allow_somebody(name, "old") for name in "ac"] == [True, False]


def test_ones_own_patterns_come_first() -> None:
    """What everyone is allowed counts for users of whom nothing is said."""
    rules = Rules(
        Patterns(allow=("a",)),
        Patterns(allow=()),
        {"alice": Patterns(allow=("b",)), "bob": Patterns(deny=("x",))},
    )
    assert [rules.allow(ALICE, name, None) for name in "ab"] == [False, True]
    assert [rules.allow(BOB, name, None) for name in "ab"] == [True, False]
    assert [rules.allow(ANONYMOUS, name, None) for name in "ab"] == [False, False]


def test_every_package_has_to_be_allowed() -> None:
    """One package that may not be pulled is enough, wherever it is named."""
    rules = Rules(Patterns(allow=("git", "shell", "arm*"), deny=("secret",)))
    assert rules.allow(ALICE, "shell/arm64/git", None)
    for name in ("git/htop", "git/secret", "shell/secret/git", "htop"):
        assert not rules.allow(ALICE, name, None)


def test_the_shell_is_a_name_of_its_own() -> None:
    """``shell`` is allowed as such, and denied by what it holds."""
    assert Rules(Patterns(allow=("shell",))).allow(ALICE, "shell", None)
    assert not Rules(Patterns(allow=("git",))).allow(ALICE, "shell/git", None)
    assert not Rules(Patterns(deny=("bashInteractive",))).allow(ALICE, "shell/git", None)


def test_ci_has_a_shell() -> None:
    """Who may have no shell has none by another name either; ``ci`` is allowed as such."""
    for denied in ("shell", "ci", "nano", "curl"):
        assert not Rules(Patterns(deny=(denied,))).allow(ALICE, "ci/jq", None)
    assert Rules(Patterns(allow=("ci", "jq"))).allow(ALICE, "ci/jq", None)
    assert not Rules(Patterns(allow=("shell", "jq"))).allow(ALICE, "ci/jq", None)


@pytest.mark.parametrize("name", ["a", "pkgs.a", "pkgs.pkgs.a.b", "a.doc", "x/a"])
def test_ways_to_a_package(name: str) -> None:
    """A package is denied by whatever way it is named."""
    assert not Rules(Patterns(deny=("a",))).allow(ALICE, name, None)
    assert Rules(Patterns(deny=("a",))).allow(ALICE, "aa/b.a-b", None)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("haskellPackages.*", "haskellpackages.shellcheck"),
        ("_7zz", "7zz"),
        ("x._7zz", "x.7zz"),
        ("[a-c]*", "bcd"),
        ("py*.s?x", "python3packages.six"),
    ],
)
def test_patterns_are_of_attributes(pattern: str, name: str) -> None:
    """A pattern may be written as the package set does, though names have no upper case."""
    assert not Rules(Patterns(deny=(pattern,))).allow(ALICE, name, None)
    assert Rules(Patterns(allow=(pattern,))).allow(ALICE, name, None)


def test_tags() -> None:
    """Tags are allowed and denied as packages are; a digest is no tag."""
    rules = Rules(Patterns(deny_tags=("*-small",)), None, {"alice": Patterns(allow_tags=("x*",))})
    assert rules.allow(ALICE, "a", "x1")
    assert not rules.allow(ALICE, "a", "latest")
    assert not rules.allow(ALICE, "a", "x-small")
    assert not rules.allow(BOB, "a", "x-small")
    assert rules.allow(BOB, "a", "latest")
    assert rules.allow(ALICE, "a", None)


@pytest.mark.parametrize("name", ["arm64", "a/arm64", "A", "", "a//b", "../a"])
def test_what_names_no_image(name: str) -> None:
    """What is no image's name is allowed to nobody, not even by a digest."""
    with pytest.raises(NameInvalid):
        Rules().allow(ALICE, name, None)


@given(PATHS, st.lists(STEPS, max_size=2), st.lists(STEPS, max_size=2))
def test_denied_in_any_place(path: str, before: list[str], behind: list[str]) -> None:
    """A path that is denied is denied within every longer one."""
    longer = ".".join([*before, path, *behind])
    assert Patterns(deny=(path,)).denies(longer)


@given(st.lists(st.text(max_size=10)), st.lists(st.text(max_size=10)), PATHS)
def test_any_patterns(allow: list[str], deny: list[str], path: str) -> None:
    """Whatever the patterns are, they are patterns; more that deny never allow more."""
    rules = Rules(Patterns(allow=allow, deny=deny))
    fewer = Rules(Patterns(allow=allow))
    assert rules.allow(ALICE, path, "latest") <= fewer.allow(ALICE, path, "latest")
    assert Rules(Patterns(allow=[*allow, "*"])).allow(ALICE, path, "latest")


@attrs.frozen
class Counted(Patterns):
    """Patterns that count what they are asked."""

    asked: list[str] = attrs.field(factory=list)

    def denies(self, package: str) -> bool:
        self.asked.append(package)
        return super().denies(package)


def test_answers_are_remembered() -> None:
    """What was said of an image is not worked out again for the same user: lists of builds ask
    for thousands at once."""
    counted = Counted(deny=("b",))
    rules = Rules(counted, None, {"alice": Patterns(allow=("b",))})
    for _ in range(3):
        assert rules.allow(ALICE, "a", "x") is False
        assert rules.allow(ANONYMOUS, "a", "x")
        assert not rules.allow(ANONYMOUS, "b", "x")
        assert not rules.allow(ANONYMOUS, "a/b", None)
    assert len(counted.asked) == 5


def test_no_spelling_gets_around_a_rule() -> None:
    """What is denied is denied with its capital letters numbered too, and a name that could mean
    very many attributes is."""
    rules = Rules(everyone=Patterns(deny=("secret*", "b.c")))
    for name in ("secret", "secret--1", "x.secret--1-2.y", "a.b--1.c", "b--1.c--1"):
        assert not rules.allow(ANONYMOUS, name, "latest"), name
    assert rules.allow(ANONYMOUS, "public--1", "latest")
    assert not rules.allow(ANONYMOUS, ".".join(["a--1"] * 20), "latest")


def test_what_is_allowed_is_allowed_as_it_is_spelled() -> None:
    """A pattern that allows a name does not allow another one that is spelled with numbers."""
    rules = Rules(everyone=Patterns(allow=("foo",)))
    assert rules.allow(ANONYMOUS, "foo", "latest")
    assert not rules.allow(ANONYMOUS, "foo--1", "latest")
