"""The branches and tags of a git repository, and what they stand for: pure."""

from collections.abc import Callable, Mapping

import attrs

HEAD, HEADS, TAGS = "HEAD", "refs/heads/", "refs/tags/"
_PEELED = "^{}"
# Digits of an object's id, by the hash function of its repository.
_FORMATS = {40: "sha1", 64: "sha256"}


@attrs.frozen(eq=False)
class Listing:
    """A repository's HEAD, branches and tags at one moment.

    :param ids: full name → the id of an object. An annotated tag stands there twice, the second
        time with ``^{}`` behind its name: that is the object which it is a tag of.
    """

    ids: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Listing":
        """Read what ``git ls-remote`` prints; what is no branch, tag or HEAD is left out."""
        lines = (line.partition("\t") for line in text.splitlines())
        return cls({name: id for id, _, name in lines if _is_listed(name)})

    def commit(self, name: str) -> str | None:
        """The id that a branch, or else a tag, of a short name stands for."""
        full = (f"{HEADS}{name}", f"{TAGS}{name}{_PEELED}", f"{TAGS}{name}")
        return next((self.ids[each] for each in full if each in self.ids), None)

    @property
    def head(self) -> str | None:
        """The id that HEAD stands for, if it was listed."""
        return self.ids.get(HEAD)

    @property
    def detached(self) -> bool:
        """Whether no branch has the id of HEAD."""
        branches = (id for name, id in self.ids.items() if name.startswith(HEADS))
        return self.head is not None and self.head not in branches

    @property
    def names(self) -> set[str]:
        """The short names of all branches and tags."""
        return {_short(name) for name in self.ids if name != HEAD}

    def tips(self, allows: Callable[[str], bool]) -> dict[str, str]:
        """The tips of the served history: HEAD, branches and tags.

        :param allows: whether a short name is served.
        :return: the id of a name's object, or of an annotated tag's → that of what it stands for.
        """
        served = [name for name in self.ids if name == HEAD or allows(_short(name))]
        return {self.ids[name]: self.ids.get(name + _PEELED, self.ids[name]) for name in served}

    def named(self, text: str) -> set[str]:
        """The full names of branches and tags whose ids, or those of what they stand for, are in a
        text."""
        found = (name for name, id in self.ids.items() if name != HEAD and id in text)
        return {name.removesuffix(_PEELED) for name in found}

    def of(self, name: str) -> list[str]:
        """The ids of a full name: of its object, and of what that is a tag of."""
        return [self.ids[each] for each in (name, name + _PEELED) if each in self.ids]

    @property
    def object_format(self) -> str:
        """The repository's hash function, as git calls it."""
        return next((object_format(id) for id in self.ids.values()), "sha1")


def object_format(id: str) -> str:
    """The hash function that an object's id is of, as git calls it."""
    return _FORMATS.get(len(id), "sha1")


def _is_listed(name: str) -> bool:
    return name == HEAD or name.startswith((HEADS, TAGS))


def _short(name: str) -> str:
    # One of the two: a branch may be named as if it were a tag.
    return name.removesuffix(_PEELED).removeprefix(HEADS if name.startswith(HEADS) else TAGS)
