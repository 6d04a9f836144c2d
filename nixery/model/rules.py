"""The access rules: who may pull which images. Pure.

Names are compared as images write them, in lower case and without the ``_`` before a digit, since
that is how packages are found. A package set often has many ways to the same package: nixpkgs
holds itself as ``pkgs``, and a package has parts such as ``git.doc``. So a pattern that denies
counts for every run of steps of an attribute path, and one that allows for the whole path alone.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import product
from math import inf, prod

import attrs

from nixery.model.image import parse_image, spellings
from nixery.model.tags import LATEST

_REMEMBERED = 32_768
"""Answers: more than there are images in the history of builds, for a few users."""
_MOST_READINGS = 64
"""Attribute paths, without regard to case, that a name may mean where rules deny something."""
_NUMERAL = re.compile(r"(^|\.)_(?=[0-9])")


@attrs.frozen
class Who:
    """Who asks.

    :param name: the user's; none for an anonymous client.
    :param grants: the image names that the credentials are good for; none if they name none, and
        so are good for all that the user may pull.
    :param until: when they expire, in seconds since 1970.
    """

    name: str | None = None
    grants: frozenset[str] | None = None
    until: float = attrs.field(default=inf, eq=False)


ANONYMOUS = Who()


def _allowing(patterns: Sequence[str] | None) -> re.Pattern[str] | None:
    return None if patterns is None else _any_of(translate(_plain(p)) for p in patterns)


def _denying(patterns: Sequence[str]) -> re.Pattern[str]:
    # translate() ends its expression with an anchor, which here stands behind a look-ahead.
    return _any_of(rf"(?s:(?:.*\.)?){_unanchored(_plain(p))}(?s:(?:\..*)?)\Z" for p in patterns)


def _any_of(expressions: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(expressions) or r"(?!)")


def _unanchored(pattern: str) -> str:
    return re.sub(r"\\[Zz]\Z", "", translate(pattern))


def _plain(name: str) -> str:
    """A pattern, or an attribute path, as image names write it."""
    return _NUMERAL.sub(r"\1", name.lower())


@attrs.frozen
class Patterns:
    """The rules for one user, as patterns as shells have them: ``*``, ``?`` and ``[…]``.

    :param allow: packages; none if nothing is said about them.
    :param deny: packages that are refused even if they are allowed.
    :param allow_tags: tags; none if nothing is said about them.
    :param deny_tags: tags that are refused even if they are allowed.
    """

    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()
    allow_tags: Sequence[str] | None = None
    deny_tags: Sequence[str] = ()
    _allow: re.Pattern[str] | None = attrs.field(init=False, repr=False, eq=False)
    _deny: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)
    _allow_tags: re.Pattern[str] | None = attrs.field(init=False, repr=False, eq=False)
    _deny_tags: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        tags = None if self.allow_tags is None else _any_of(map(translate, self.allow_tags))
        object.__setattr__(self, "_allow", _allowing(self.allow))
        object.__setattr__(self, "_deny", _denying(self.deny))
        object.__setattr__(self, "_allow_tags", tags)
        object.__setattr__(self, "_deny_tags", _any_of(map(translate, self.deny_tags)))

    def allows(self, package: str) -> bool | None:
        """Whether a package is allowed; nothing if these patterns do not say."""
        return None if self._allow is None else self._allow.match(_plain(package)) is not None

    def denies(self, package: str) -> bool:
        """Whether a package, what it is part of, or a part of it, is refused, however it is
        spelled."""
        readings = [{_plain(each) for each in spellings(step)} for step in package.split(".")]
        if prod(map(len, readings)) > _MOST_READINGS:  # nobody means all of that
            return True
        return any(self._deny.match(".".join(steps)) for steps in product(*readings))

    def allows_tag(self, tag: str) -> bool | None:
        """Whether a tag is allowed; nothing if these patterns do not say."""
        return None if self._allow_tags is None else self._allow_tags.match(tag) is not None

    def denies_tag(self, tag: str) -> bool:
        """Whether a tag is refused."""
        return self._deny_tags.match(tag) is not None


NOTHING_SAID = Patterns()


@attrs.frozen
class Rules:
    """The access rules of the registry.

    What is denied, to everyone or to the user, is denied. Else the user's own patterns decide
    what is allowed, where there are some, and those for everyone where there are not; where
    there are none at all, everything is.

    :param everyone: for all, anonymous clients as well.
    :param anonymous: for clients without credentials; none if nothing is said about them.
    :param users: for each user.
    """

    everyone: Patterns = NOTHING_SAID
    anonymous: Patterns | None = None
    users: Mapping[str, Patterns] = attrs.field(factory=dict)
    _said: Callable[[str | None, str, str | None], bool] = attrs.field(
        init=False, repr=False, eq=False
    )

    def __attrs_post_init__(self) -> None:
        # Lists of builds ask for thousands of images at once, each time that somebody looks.
        object.__setattr__(self, "_said", lru_cache(_REMEMBERED)(self._say))

    def allow(self, who: Who, name: str, tag: str | None) -> bool:
        """Whether someone may pull an image.

        :param tag: none for what is named by its digest.
        :raises NameInvalid: if that is no name of an image.
        """
        return self._said(who.name, name, tag)

    def allow_somebody(self, name: str, tag: str | None) -> bool:
        """Whether there is anybody who may pull an image: any user may be, who is not named here.

        :param tag: none for what is named by its digest.
        :raises NameInvalid: if that is no name of an image.
        """
        return any(self._said(user, name, tag) for user in (None, "", *self.users))

    def _say(self, user: str | None, name: str, tag: str | None) -> bool:
        own = self._of(user)
        image = parse_image(name, LATEST)
        shell = ["shell"] if image.shell else []  # that of ``ci`` is one too
        whole, named = [*shell, *image.groups, *image.packages], [*image.groups, *image.own]
        if any(p.denies(each) for p in (own, self.everyone) for each in whole):
            return False
        if not all(self._allowed(own.allows(n), self.everyone.allows(n)) for n in named):
            return False
        return tag is None or self._allow_tag(own, tag)

    def _of(self, user: str | None) -> Patterns:
        if user is None:
            return self.anonymous or NOTHING_SAID
        return self.users.get(user, NOTHING_SAID)

    def _allow_tag(self, own: Patterns, tag: str) -> bool:
        if own.denies_tag(tag) or self.everyone.denies_tag(tag):
            return False
        return self._allowed(own.allows_tag(tag), self.everyone.allows_tag(tag))

    @staticmethod
    def _allowed(own: bool | None, of_everyone: bool | None) -> bool:
        said = of_everyone if own is None else own
        return True if said is None else said
