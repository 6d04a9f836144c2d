"""What happens while an image is made, as values."""

from collections.abc import Callable, Sequence

import attrs


@attrs.frozen
class Asked:
    """Clients wait for the build; told when more of them do than ever before.

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
    """Nix said how many derivations it is to build."""

    derivations: int


@attrs.frozen
class FetchesPlanned:
    """Nix said what it is to copy from binary caches.

    :param paths: how many store paths.
    :param download: bytes to load, about.
    :param unpacked: bytes that they have in the store, about.
    """

    paths: int
    download: int
    unpacked: int


@attrs.frozen
class Planned:
    """Nix said what is to be done: another line of it, such as a store path's."""

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
    """A derivation's builder printed a line; it is the package's text, and not to be trusted."""

    derivation: str
    line: str


@attrs.frozen
class BuildStopped:
    """A derivation's builder ended, well or not."""

    derivation: str


@attrs.frozen
class Blocked:
    """All that is left to do waits for what other builds make.

    :param outputs: the names of these store paths, without folder and hash.
    """

    outputs: Sequence[str]


@attrs.frozen
class Unblocked:
    """There is something to do again."""


@attrs.frozen
class FetchStarted:
    """Nix started to copy a store path from a binary cache."""

    path: str
    origin: str


@attrs.frozen
class FetchProgress:
    """Some more bytes came from binary caches; told about a hundred times in all.

    :param done: bytes that came so far.
    :param expected: bytes that are to come in all, as far as Nix knows yet.
    """

    done: int
    expected: int


@attrs.frozen
class Said:
    """Nix said something else.

    :param level: 0 for errors, 1 for warnings, higher for what matters less.
    """

    level: int
    text: str


@attrs.frozen
class Traced:
    """All that Nix said, with traces, source lines and paths: for the daemon's log alone."""

    text: str


@attrs.frozen
class Realised:
    """All packages are built, or fetched, with their closure.

    :param paths: how many store paths that is.
    :param size: their NAR sizes together, in bytes.
    """

    paths: int
    size: int


@attrs.frozen
class Measured:
    """What a package brings along is known.

    :param paths: how many store paths it is, with all that it refers to.
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
    """How containers of the image are run is known.

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
    """A layer is in the storage, whoever packed it."""

    digest: str


@attrs.frozen
class Done:
    """The image is made.

    :param digest: its manifest's.
    """

    digest: str


@attrs.frozen
class Failed:
    """There will be no image.

    :param message: why, in words for people.
    :param derivation: the one that failed to build, if one did.
    """

    message: str
    derivation: str | None


@attrs.frozen
class Skipped:
    """Some events of the build can't be told any more.

    :param count: how many; nothing where nobody knows.
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
"""Takes events as they come, in the reactor's thread, and never raises."""
