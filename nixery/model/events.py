"""Events of an image's build, as values."""

from collections.abc import Callable, Sequence

import attrs


@attrs.frozen
class Asked:
    """More clients wait for the build than at any time before.

    :param waiting: how many.
    """

    waiting: int


@attrs.frozen
class Queued:
    """The build waits for its turn.

    :param running: builds that run.
    :param waiting: builds that wait, this one among them.
    """

    running: int
    waiting: int


@attrs.frozen
class Resolved:
    """The package source's revision is known."""

    source: str
    revision: str


@attrs.frozen
class Evaluating:
    """Nix looks for the packages in the package set."""


@attrs.frozen
class Found:
    """Evaluation found a package.

    :param attribute: the attribute path that its name led to.
    :param name: the derivation's name, with its version.
    """

    package: str
    attribute: str
    name: str


@attrs.frozen
class BuildsPlanned:
    """Nix announced how many derivations it will build."""

    derivations: int


@attrs.frozen
class FetchesPlanned:
    """Nix announced what it will copy from binary caches.

    :param paths: the number of store paths.
    :param download: approximate bytes to download.
    :param unpacked: approximate bytes in the store.
    """

    paths: int
    download: int
    unpacked: int


@attrs.frozen
class Planned:
    """Another line of Nix's plan, such as a store path."""

    text: str


@attrs.frozen
class BuildStarted:
    """Nix started to build a derivation."""

    derivation: str


@attrs.frozen
class PhaseStarted:
    """A derivation's builder entered a phase."""

    derivation: str
    phase: str


@attrs.frozen
class LogLine:
    """A derivation's builder printed a line: untrusted text of the package."""

    derivation: str
    line: str


@attrs.frozen
class BuildStopped:
    """A derivation's builder ended, successfully or not."""

    derivation: str


@attrs.frozen
class Blocked:
    """All remaining work waits for outputs that other builds make.

    :param outputs: the names of these store paths, without folder and hash.
    """

    outputs: Sequence[str]


@attrs.frozen
class Unblocked:
    """The build can go on."""


@attrs.frozen
class FetchStarted:
    """Nix started to copy a store path from a binary cache."""

    path: str
    origin: str


@attrs.frozen
class FetchProgress:
    """More bytes arrived from binary caches; about a hundred of these events in all.

    :param done: bytes received so far.
    :param expected: bytes expected in all, as far as Nix knows.
    """

    done: int
    expected: int


@attrs.frozen
class Said:
    """Another message of Nix.

    :param level: 0 for errors, 1 for warnings, higher for less important messages.
    """

    level: int
    text: str


@attrs.frozen
class Traced:
    """Nix's full error output with traces, source lines and paths: for the daemon's log only."""

    text: str


@attrs.frozen
class Realised:
    """All packages and their closure are built or fetched.

    :param paths: the number of store paths.
    :param size: their NAR sizes together, in bytes.
    """

    paths: int
    size: int


@attrs.frozen
class Measured:
    """The size of a package's closure is known.

    :param paths: the number of store paths in the closure.
    :param size: their NAR sizes together, in bytes.
    """

    package: str
    paths: int
    size: int


@attrs.frozen
class Collided:
    """Two packages have a file at the same place of the root file system.

    :param name: the place, relative to the root.
    :param kept: the package whose file is there.
    :param lost: the package whose file is not.
    """

    name: str
    kept: str
    lost: str


@attrs.frozen
class Furnished:
    """The command and programs of the image are known.

    :param entrypoint: program and first arguments, if a package says so.
    :param command: what is run, or the arguments of the entry point; nothing where no program
        suggests itself.
    :param programs: of the packages that were named, by the names that they are run by: one of
        each package, or a few.
    :param tools: of ``bash``, ``sh`` and ``sleep``, those that the image has.
    """

    entrypoint: Sequence[str]
    command: Sequence[str]
    programs: Sequence[str]
    tools: Sequence[str]


@attrs.frozen
class Grouped:
    """The layers of the image are known.

    :param layers: how many there are, with the root file system.
    :param known: how many of them need not be packed.
    """

    layers: int
    known: int


@attrs.frozen
class Packed:
    """A layer was packed.

    :param size: compressed bytes.
    :param uncompressed: bytes of its tar stream.
    """

    digest: str
    size: int
    uncompressed: int
    paths: Sequence[str]


@attrs.frozen
class Stored:
    """A layer is in the storage, whichever build packed it."""

    digest: str


@attrs.frozen
class Done:
    """The image is complete.

    :param digest: of its manifest.
    """

    digest: str


@attrs.frozen
class Failed:
    """The build failed.

    :param message: the reason, for people.
    :param derivation: the one that failed to build, if one did.
    """

    message: str
    derivation: str | None


@attrs.frozen
class Skipped:
    """Some events of the build are lost.

    :param count: how many; none if unknown.
    """

    count: int | None


Event = (
    Asked
    | Queued
    | Resolved
    | Evaluating
    | Found
    | BuildsPlanned
    | FetchesPlanned
    | Planned
    | BuildStarted
    | PhaseStarted
    | LogLine
    | BuildStopped
    | Blocked
    | Unblocked
    | FetchStarted
    | FetchProgress
    | Said
    | Traced
    | Realised
    | Measured
    | Collided
    | Furnished
    | Grouped
    | Packed
    | Stored
    | Done
    | Failed
    | Skipped
)

Emit = Callable[[Event], None]
"""Takes events in the reactor's thread as they occur; it never raises."""
