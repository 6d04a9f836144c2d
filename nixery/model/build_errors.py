"""Why an image could not be made."""

from collections.abc import Sequence

import attrs

from nixery.model.errors import NixeryError


def _end_of(log: Sequence[str]) -> str:
    return "; the end of its log:\n" + "\n".join(log) if log else ""


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
