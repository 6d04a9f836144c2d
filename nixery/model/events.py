"""What happens while an image is made, as values."""

from collections.abc import Callable, Sequence

import attrs


@attrs.frozen
class Resolved:
    """The package source's revision is known."""

    source: str
    revision: str


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
class Planned:
    """Nix said what is to be done: a line of it."""

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
class FetchStarted:
    """Nix started to copy a store path from a binary cache."""

    path: str
    origin: str


@attrs.frozen
class Said:
    """Nix said something else.

    :param level: 0 for errors, 1 for warnings, higher for what matters less.
    """

    level: int
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
class Grouped:
    """The layers of the image are known.

    :param layers: how many there are, with the root file system.
    :param known: how many of them need not be packed.
    """

    layers: int
    known: int


@attrs.frozen
class Packed:
    """A layer was packed and stored.

    :param size: compressed bytes.
    :param uncompressed: bytes of its tar stream.
    """

    digest: str
    size: int
    uncompressed: int
    paths: Sequence[str]


Event = (
    Resolved
    | Found
    | Planned
    | BuildStarted
    | PhaseStarted
    | LogLine
    | BuildStopped
    | FetchStarted
    | Said
    | Realised
    | Collided
    | Grouped
    | Packed
)

Emit = Callable[[Event], None]
"""Takes events as they come, in the reactor's thread, and never raises."""
