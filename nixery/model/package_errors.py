"""What the package set has to say against an image."""

from collections.abc import Sequence
from typing import Self

import attrs

from nixery.model.errors import NixeryError
from nixery.model.suggestions import MOST, Suggestion


def _either(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else "".join(names)


@attrs.define
class UnknownPackage(NixeryError):
    """A named package is not in the set.

    :param package: the attribute path as it was asked for.
    :param nearest: names of the set that are most like it, the likeliest first.
    :param meta: the meta-package that brought it in, if one did.
    :param meant: packages of other names that go by this one too, the likeliest first: where there
        are some, names that are merely like it are not told.
    """

    package: str
    nearest: Sequence[str] = ()
    meta: str | None = None
    meant: Sequence[Suggestion] = ()

    def public(self) -> Self:
        """The same with as many hints as are told at once."""
        return attrs.evolve(self, nearest=self.nearest[:MOST], meant=self.meant[:MOST])

    def __str__(self) -> str:
        origin = f" (it is part of {self.meta!r})" if self.meta else ""
        hints = [str(each) for each in self.meant or self.nearest][:MOST]
        hint = f"; did you mean {_either(hints)}?" if hints else ""
        return f"there is no package {self.package!r} in this package set{origin}{hint}"


@attrs.define
class PackageUnnameable(NixeryError):
    """An attribute that no image's name can ask for.

    :param package: the attribute path as it was asked for.
    :param attribute: the one in the set, as Nix writes it.
    """

    _message = (
        "the package name {0.package!r} can't be looked up: in a name, a dot separates a set from "
        "what is in it, and the attribute {0.attribute} has a dot in its own name; it needs "
        "another name in the package set"
    )
    package: str
    attribute: str


@attrs.define
class AmbiguousPackage(NixeryError):
    """A name matches several attributes that differ only in case.

    :param matches: the attributes, as they are written.
    :param names: how each is asked for; empty for one that can't be.
    """

    package: str
    matches: Sequence[str]
    names: Sequence[str] = ()

    def __str__(self) -> str:
        spelled = ", ".join(
            f"{name} for {match}"
            for match, name in zip(self.matches, self.names, strict=False)
            if name
        )
        hint = f"; ask for {spelled}" if spelled else ""
        return (
            f"the package name {self.package!r} is ambiguous: it matches {_either(self.matches)}, "
            f"and image names have no upper case{hint}"
        )


@attrs.define
class InterpretersDiffer(NixeryError):
    """Packages that are to work together are for different interpreters of one kind.

    :param kind: such as ``python``.
    :param packages: the first one, and those that are not for its interpreter.
    """

    kind: str
    packages: Sequence[str]

    def __str__(self) -> str:
        first, *others = self.packages
        return (
            f"{first} is for a different {self.kind} than {' and '.join(others)}; name packages "
            f"for the same {self.kind}"
        )


@attrs.define
class NotAPackage(NixeryError):
    """A name leads to something that is no derivation.

    :param kind: what it is, with its article: ``a string``, ``a set of packages``.
    :param inside: packages to be found in it, if it is a set.
    """

    package: str
    kind: str
    inside: Sequence[str] = ()

    def __str__(self) -> str:
        hint = f"; it holds {', '.join(self.inside)}" if self.inside else ""
        return f"{self.package!r} is not a package but {self.kind}{hint}"


@attrs.define
class EvaluationFailed(NixeryError):
    """The package set refused, or failed, to evaluate.

    :param message: the set's own words, without colours and without a trace.
    :param trace: the whole of what Nix said; empty unless the operator has it shown.
    """

    _message = "the package set could not be evaluated: {0.message}"
    _of_machine = ("message",)

    message: str
    trace: str = ""


@attrs.define
class SystemUnsupported(NixeryError):
    """The package set can't be asked for another architecture."""

    _message = "this package set has no packages for {0.system}"
    system: str
