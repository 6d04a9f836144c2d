"""What instances that are no more have left unfinished in the bucket goes after a day."""

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nixery.model.errors import NixeryError
from nixery.storage.gcs.bucket import Bucket
from nixery.storage.keys import is_lease_key, is_staged_name

_AGE = 24 * 3600.0  # seconds
_EVERY = 6 * 3600.0  # seconds
_OURS = {"staging/": is_staged_name, "leases/": is_lease_key}
"""Where leavings are, and which names below are of our form."""


class Cleaning:
    """Looks for leavings every few hours."""

    _log = Logger()

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._call = LoopingCall(lambda: Deferred.fromCoroutine(self.clean()))
        self._call.clock = bucket.requests.reactor

    def start(self) -> None:
        """Begin at once."""
        if not self._call.running:
            self._call.start(_EVERY)

    def stop(self) -> None:
        """Look no more."""
        if self._call.running:
            self._call.stop()

    async def clean(self) -> None:
        """Delete what is old by the service's own clock; what fails is tried next time."""
        try:
            for prefix, is_ours in _OURS.items():
                async for found, now in self._bucket.objects(prefix):
                    ours = is_ours(found.name.removeprefix(prefix))
                    if ours and now is not None and now - found.updated > _AGE:
                        await self._bucket.delete(found.name, found.generation)
                        self._log.info("deleted {name}: nobody finished it", name=found.name)
        except NixeryError as error:
            self._log.warn("old objects are left for later: {error}", error=str(error))
