"""Errors on an image's way from its name to a client, as exceptions that carry the facts.

``str(error)`` is a complete sentence; its status and code in the registry protocol are decided in
:mod:`nixery.http.answers` alone. ``tests/model/messages.txt`` lists all messages on one page.
"""

import copy
from collections.abc import Sequence
from typing import ClassVar, Self

import attrs

from nixery.model.paths import hide_paths
from nixery.model.suggestions import MOST, Suggestion


class NixeryError(Exception):
    """A request that Nixery can't meet, and why.

    ``str(error)`` may name files of this machine: it is for the operator. Clients get the message
    of :meth:`public`.
    """

    _message: ClassVar[str] = ""
    """The message, as a format string in which ``0`` is the error."""

    _of_machine: ClassVar[tuple[str, ...]] = ()
    """Fields whose text comes from Nix, git or the operating system."""

    def __str__(self) -> str:
        return self._message.format(self)

    def public(self) -> Self:
        """A copy without paths of this machine."""
        shown = copy.copy(self)
        for name in self._of_machine:
            setattr(shown, name, hide_paths(getattr(self, name)))
        return shown

    @property
    def cause(self) -> str:
        """The message without the end of a log that it quotes."""
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
            "'_', '.' and '-', and must not start with '.' or '-'"
        )


@attrs.define
class DigestInvalid(NixeryError):
    """A digest is not of the form ``sha256:<64 hexadecimal digits>``."""

    digest: str

    def __str__(self) -> str:
        return (
            f"{self.digest[:90]!r} is not a digest; expected sha256: followed by 64 lower-case "
            "hexadecimal digits"
        )


@attrs.define
class RangeInvalid(NixeryError):
    """A byte range starts behind the end of the blob.

    :param size: the blob's size in bytes.
    """

    _message = "the range starts past the end of the blob, which has {0.size} bytes"
    size: int


@attrs.define
class UnknownTag(NixeryError):
    """The package source has no revision of that name."""

    _message = "there is no revision {0.tag!r} in {0.source}"
    tag: str
    source: str


@attrs.define
class CommitNotServed(UnknownTag):
    """No branch or tag that is served reaches a commit: it may be another's, or not exist."""

    _message = (
        "the commit {0.tag} is not in the history of any branch or tag of {0.source} that this "
        "registry serves"
    )


@attrs.define
class TooManyTags(NixeryError):
    """One client asks for too many tags that must be looked for.

    :param count: how many are being looked for.
    """

    _message = "{0.count} tags are already being looked up for this client; try again in a moment"
    count: int


@attrs.define
class TagNotServed(NixeryError):
    """The operator does not allow that tag."""

    _message = "this registry does not serve the tag {0.tag!r}; it always serves 'latest'"
    tag: str


@attrs.define
class ManifestUnknown(NixeryError):
    """No manifest of that digest is stored."""

    _message = "this registry has no manifest {0.reference}"
    reference: str


@attrs.define
class BlobUnknown(NixeryError):
    """No blob of that digest is stored, or what was stored turned out to be damaged."""

    _message = "this registry has no blob {0.digest}; pull the image by its tag to rebuild it"
    digest: str


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

    _message = "you are not allowed to pull {0.image}"
    image: str


@attrs.define
class TooManyAttempts(NixeryError):
    """A client tries more passwords than are checked.

    :param seconds: after which it may try again.
    """

    _message = "too many failed logins from your address; try again in {0.seconds} s"
    seconds: int


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

    _message = "the package source {0.source} can't be read: {0.reason}"
    _of_machine = ("reason",)

    source: str
    reason: str


@attrs.define
class SourceChanged(NixeryError):
    """A folder was edited while an image was made of it."""

    _message = "{0.source} was edited while the image was being built; try again"
    source: str


@attrs.define
class NixUnavailable(NixeryError):
    """Nix itself could not do its work: not installed, killed, its store unusable."""

    _message = "Nix is not working: {0.reason}"
    _of_machine = ("reason",)

    reason: str


@attrs.define
class ImageTimedOut(NixeryError):
    """Making an image took too long as a whole."""

    _message = "the image was not built within {0.seconds:g} s, the time limit of this registry"
    seconds: float


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
        return f"Nix used more than {self.limit:,} bytes of memory {doing} and was stopped"


@attrs.define
class ClosureTooLarge(NixeryError):
    """An image's packages, with all that they need, are more than is allowed.

    :param size: bytes.
    :param limit: bytes.
    """

    _message = "the packages take {0.size:,} bytes; this registry allows {0.limit:,} for an image"
    size: int
    limit: int


@attrs.define
class TooManyFiles(NixeryError):
    """An image's packages have more files than the root file system can be made of.

    :param output: the store name of the one with which they are too many.
    """

    _message = "{0.output} has too many files for an image"
    output: str


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

    _message = "{0.where} is full, so the image can't be stored; try again later"
    where: str = "the storage"


@attrs.define
class StorageUnavailable(NixeryError):
    """The storage can't be reached, or refuses its work."""

    _message = "the storage is unavailable: {0.reason}"
    _of_machine = ("reason",)

    reason: str


@attrs.define
class ShuttingDown(NixeryError):
    """The daemon is stopping; what was asked for was not finished."""

    _message = "this registry is shutting down; try again in a moment"


@attrs.define
class NoRoomToWait(NixeryError):
    """Too many clients are connected for one more that waits."""

    _message = "too many clients are waiting already; try again in a moment"


@attrs.define
class QueueFull(NixeryError):
    """Too many images wait to be made already.

    :param waiting: how many.
    """

    _message = "{0.waiting} images are waiting to be built already; try again later"
    waiting: int


@attrs.define
class TooMuchUnread(NixeryError):
    """Clients have asked for more than they read, and there is no memory left for more answers."""

    _message = "too many answers are waiting to be read; try again in a moment"
