"""Images that clients are loading: a blob that they ask for means all of its image."""

import contextlib
from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from nixery.builds.keep_alive import Using
from nixery.interfaces import IBlobs
from nixery.model.digest import Digest
from nixery.model.manifest import Manifest

_REMEMBERED = 1000


class Pulls:
    """Knows which image is loaded under a name: the one whose manifest was served for it last."""

    def __init__(self, clock: IReactorTime, storage: IBlobs, remembered: int = _REMEMBERED) -> None:
        """
        :param remembered: names, those that were asked for last.
        """
        self._clock = clock
        self._storage = storage
        self._remembered = remembered
        self._served: OrderedDict[str, frozenset[Digest]] = OrderedDict()

    def served(self, name: str, manifest: Manifest) -> None:
        """A manifest is sent to somebody who will ask for its blobs."""
        blobs = (blob.digest for blob in manifest.blobs)
        self._served[name] = frozenset((manifest.digest, *blobs))
        self._served.move_to_end(name)
        if len(self._served) > self._remembered:
            self._served.popitem(last=False)

    def loading(self, name: str, digest: Digest) -> contextlib.AbstractContextManager[object]:
        """A context in which a blob is sent: the others of its image are of use meanwhile,
        however long that takes, since the client has them still to come."""
        image = self._served.get(name, frozenset())
        if digest not in image:
            return contextlib.nullcontext()
        self._served.move_to_end(name)
        return Using(self._clock, self._storage, image)
