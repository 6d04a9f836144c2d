"""Why the service can't answer at the moment."""

import attrs

from nixery.model.errors import NixeryError


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
class OtherRegistryUnavailable(NixeryError):
    """Another registry, whose image was to be compared, did not give it."""

    _message = "the registry {0.registry} did not give its image: {0.reason}"

    registry: str
    reason: str


@attrs.define
class NixUnavailable(NixeryError):
    """Nix itself could not do its work: not installed, killed, its store unusable."""

    _message = "Nix is not working: {0.reason}"
    _of_machine = ("reason",)

    reason: str


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
