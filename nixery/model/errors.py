"""What can go wrong on an image's way, as exceptions that carry the facts.

``str(error)`` is a complete sentence; which status and code the
registry protocol gives it is decided in :mod:`nixery.http.answers` alone.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import attrs

from nixery.model.paths import hide_paths
from nixery.model.suggestions import MOST, Suggestion


class NixeryError(Exception):
    """Anything that Nixery itself has to say about a request that can't be met.

    ``str(error)`` may name files of this machine: it is for the operator. Clients are told what
    :meth:`public` says.
    """

    _of_machine: ClassVar[tuple[str, ...]] = ()
    """The fields that hold words of Nix, git or the operating system."""

    def public(self) -> Self:
        """The same without paths of this machine."""
        shown = copy.copy(self)
        for name in self._of_machine:
            setattr(shown, name, hide_paths(getattr(self, name)))
        return shown

    @property
    def cause(self) -> str:
        """What it says without the end of a log that it quotes."""
        return str(self)


def _either(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1] if len(names) > 1 else "".join(names)


def _end_of(log: Sequence[str]) -> str:
    return "; the end of its log:\n" + "\n".join(log) if log else ""


# --- what was asked for -------------------------------------------------------------------


@attrs.define
class NameInvalid(NixeryError):
    """The image name is outside the grammar or its limits."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"the image name {self.name[:80]!r} is not valid: {self.reason}"


@attrs.define
class ImageInvalid(NameInvalid):
    """The name is within the grammar, but no image can be made for it."""


@attrs.define
class TagInvalid(NixeryError):
    """The tag is outside the registry's grammar."""

    tag: str

    def __str__(self) -> str:
        return (
            f"the tag {self.tag[:80]!r} is not valid: a tag has up to 128 letters, digits, "
            "'_', '.' and '-', and starts with none of the last two"
        )


@attrs.define
class DigestInvalid(NixeryError):
    """A digest is not of the form ``sha256:<64 hexadecimal digits>``."""

    digest: str

    def __str__(self) -> str:
        return f"{self.digest[:90]!r} is not a digest: sha256: and 64 lower-case digits are"


@attrs.define
class RangeInvalid(NixeryError):
    """A byte range starts behind the end of the blob.

    :param size: the blob's size in bytes.
    """

    size: int

    def __str__(self) -> str:
        return f"the blob has {self.size} bytes, the range asked for begins behind them"


@attrs.define
class UnknownTag(NixeryError):
    """The package source has no revision of that name."""

    tag: str
    source: str

    def __str__(self) -> str:
        return f"there is no revision {self.tag!r} in {self.source}"


@attrs.define
class CommitNotServed(UnknownTag):
    """No branch or tag that is served reaches a commit: it may be another's, or not exist."""

    def __str__(self) -> str:
        return (
            f"the commit {self.tag} is not in the history of any branch or tag of {self.source} "
            "that this registry serves"
        )


@attrs.define
class TooManyTags(NixeryError):
    """One client asks for too many tags that must be looked for.

    :param count: how many are being looked for.
    """

    count: int

    def __str__(self) -> str:
        return f"{self.count} tags are being looked for already for this client; ask again later"


@attrs.define
class TagNotServed(NixeryError):
    """The operator does not allow that tag."""

    tag: str

    def __str__(self) -> str:
        return f"this registry does not serve the tag {self.tag!r}; it always serves 'latest'"


@attrs.define
class ManifestUnknown(NixeryError):
    """No manifest of that digest is stored."""

    reference: str

    def __str__(self) -> str:
        return f"no manifest {self.reference} is known here"


@attrs.define
class BlobUnknown(NixeryError):
    """No blob of that digest is stored, or what was stored turned out to be damaged."""

    digest: str

    def __str__(self) -> str:
        return f"no blob {self.digest} is known here; pull the image by its tag to make it anew"


# --- who asks -----------------------------------------------------------------------------


@attrs.define
class Unauthorized(NixeryError):
    """Credentials are needed, or those that were sent are not right.

    :param reason: what else there is to say; it says nothing about any user.
    """

    reason: str = ""

    def __str__(self) -> str:
        return f"authentication required{'; ' if self.reason else ''}{self.reason}"


@attrs.define
class Denied(NixeryError):
    """A user may not pull an image.

    :param image: its name, and its tag if it was asked for by one.
    """

    image: str

    def __str__(self) -> str:
        return f"you may not pull {self.image}"


@attrs.define
class TooManyAttempts(NixeryError):
    """A client tries more passwords than are checked.

    :param seconds: after which it may try again.
    """

    seconds: int

    def __str__(self) -> str:
        return f"too many failed logins from your address; try again in {self.seconds} s"


# --- what the package set says ------------------------------------------------------------


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
class PackageUnnamable(NixeryError):
    """An attribute that no image's name can ask for.

    :param package: the attribute path as it was asked for.
    :param attribute: the one in the set, as Nix writes it.
    """

    package: str
    attribute: str

    def __str__(self) -> str:
        return (
            f"the package name {self.package!r} can't be looked up: in a name, a dot separates a "
            f"set from what is in it, and the attribute {self.attribute} has one in its own "
            "name, so no image can ask for it; it needs another name in the package set"
        )


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
            f"{first} is a library of another {self.kind} than {' and '.join(others)}: name "
            "packages of one of them"
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

    _of_machine = ("message",)

    message: str
    trace: str = ""

    def __str__(self) -> str:
        return f"the package set could not be evaluated: {self.message}"


@attrs.define
class SystemUnsupported(NixeryError):
    """The package set can't be asked for another architecture."""

    system: str

    def __str__(self) -> str:
        return f"this package set has no packages for {self.system}"


# --- what building says -------------------------------------------------------------------


@attrs.define
class BuildFailed(NixeryError):
    """A derivation failed to build.

    :param derivation: its name without the store folder and hash, such as ``broken-1.0``.
    :param reason: Nix's words for it.
    :param log: the last lines of its build log.
    """

    _of_machine = ("reason",)

    derivation: str
    reason: str
    log: Sequence[str] = ()

    @property
    def cause(self) -> str:
        return f"{self.derivation} failed to build: {self.reason}"

    def __str__(self) -> str:
        return self.cause + _end_of(self.log)


@attrs.define
class BuildTimedOut(NixeryError):
    """A derivation took longer than ``NIX_TIMEOUT`` seconds, or what Nix's own settings allow.

    :param silent: whether it was stopped because it printed nothing for so long.
    """

    derivation: str
    seconds: int
    log: Sequence[str] = ()
    silent: bool = False

    @property
    def cause(self) -> str:
        did = "printed nothing for" if self.silent else "did not finish within"
        return f"{self.derivation} {did} {self.seconds} s and was stopped"

    def __str__(self) -> str:
        return self.cause + _end_of(self.log)


# --- what the service itself says ---------------------------------------------------------


@attrs.define
class SourceUnavailable(NixeryError):
    """The package source can't be reached or read at the moment."""

    _of_machine = ("reason",)

    source: str
    reason: str

    def __str__(self) -> str:
        return f"the package source {self.source} can't be read: {self.reason}"


@attrs.define
class SourceChanged(NixeryError):
    """A folder was edited while an image was made of it."""

    source: str

    def __str__(self) -> str:
        return f"{self.source} was edited while the image was made; ask again"


@attrs.define
class NixUnavailable(NixeryError):
    """Nix itself could not do its work: not installed, killed, its store unusable."""

    _of_machine = ("reason",)

    reason: str

    def __str__(self) -> str:
        return f"Nix could not do its work: {self.reason}"


@attrs.define
class ImageTimedOut(NixeryError):
    """Making an image took too long as a whole."""

    seconds: float

    def __str__(self) -> str:
        return f"the image was not made within {self.seconds:g} s, which is all it may take here"


@attrs.define
class MemoryExceeded(NixeryError):
    """Nix itself took too much memory: its evaluator, or for what a builder prints.

    :param limit: bytes.
    :param building: what was built when that was seen; none if the set was evaluated.
    """

    limit: int
    building: str | None = None

    def __str__(self) -> str:
        doing = f"building {self.building}" if self.building else "evaluating the package set"
        return f"{doing} took more than {self.limit:,} bytes of Nix's memory and was stopped"


@attrs.define
class ClosureTooLarge(NixeryError):
    """An image's packages, with all that they need, are more than is allowed.

    :param size: bytes.
    :param limit: bytes.
    """

    size: int
    limit: int

    def __str__(self) -> str:
        return (
            f"the packages take {self.size:,} bytes; up to {self.limit:,} may be in an image here"
        )


@attrs.define
class TooManyFiles(NixeryError):
    """An image's packages have more files than the root file system can be made of.

    :param output: the store name of the one with which they are too many.
    """

    output: str

    def __str__(self) -> str:
        return f"{self.output} has too many files for an image"


@attrs.define
class PackingFailed(NixeryError):
    """A layer could not be made.

    :param path: the store path or file that it failed on, where there is one.
    """

    _of_machine = ("path", "reason")

    path: str
    reason: str

    def __str__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        return f"a layer could not be packed{where}: {self.reason}"


@attrs.define
class PackerKilled(PackingFailed):
    """A packing process was ended by a signal, or could not be started: nothing is wrong with the
    layer."""


@attrs.define
class StorageFull(NixeryError):
    """There is no room left for what is to be stored."""

    where: str = "the storage"

    def __str__(self) -> str:
        return f"{self.where} is full: the image can't be kept; try again when there is room"


@attrs.define
class StorageUnavailable(NixeryError):
    """The storage can't be reached, or refuses its work."""

    _of_machine = ("reason",)

    reason: str

    def __str__(self) -> str:
        return f"the storage does not answer as it should: {self.reason}"


@attrs.define
class ShuttingDown(NixeryError):
    """The daemon is stopping; what was asked for was not finished."""

    def __str__(self) -> str:
        return "this registry is stopping; ask again in a moment"


@attrs.define
class NoRoomToWait(NixeryError):
    """Too many clients are connected for one more that waits."""

    def __str__(self) -> str:
        return "too many clients wait here already; ask again in a moment"


@attrs.define
class QueueFull(NixeryError):
    """Too many images wait to be made already.

    :param waiting: how many.
    """

    waiting: int

    def __str__(self) -> str:
        return f"{self.waiting} images wait to be made here already; ask again in a while"


@attrs.define
class TooMuchUnread(NixeryError):
    """Clients have asked for more than they read, and there is no memory left for more answers."""

    def __str__(self) -> str:
        return "too many answers wait here to be read; ask again in a moment"
