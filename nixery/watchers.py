"""What watches the parts while they work."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.history.record import Record
from nixery.http.bounds import Bounds
from nixery.interfaces import IStorage, Provenance
from nixery.nix.collecting import Collector
from nixery.nix.commands import Commands
from nixery.nix.process import Processes
from nixery.packing.workers import Packers
from nixery.requirements import version
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage
from nixery.watching.checks import disk_check, source_check, storage_check
from nixery.watching.disks import Disks
from nixery.watching.lag import LagMeter
from nixery.watching.metrics import Metrics, Reading, single
from nixery.watching.readiness import Check, Readiness
from nixery.web.operations import Operations

_NO_PATH = "/nix/store/" + "0" * 32 + "-ready"


class Watchers:
    """Counts what happens, and looks how the parts are.

    :ivar metrics: what is counted.
    :ivar readiness: looks at the parts.
    :ivar operations: tells both to who asks over HTTP.
    """

    def __init__(
        self,
        reactor: Any,
        storage: IStorage,
        provenance: Callable[[], Awaitable[Provenance]],
        offered: Callable[[], Awaitable[object]],
        trial: Check,
        commands: Commands,
        folders: Mapping[str, str],
        private: bool,
    ) -> None:
        """
        :param provenance: has the package source tell its revision; cancelling it ends nothing.
        :param offered: has it evaluated once, in the same way.
        :param trial: looks whether Nix can build.
        :param folders: name → path of what the daemon writes to.
        :param private: whether operators alone can ask how the parts are.
        """
        self.metrics = Metrics(version())
        self._lag = LagMeter(reactor, self.metrics.late)
        self._disks = Disks(reactor, folders)

        async def nix() -> str:
            await commands.valid([_NO_PATH])
            return ""

        checks = {
            "storage": storage_check(storage),
            "nix": nix,
            "builds": trial,
            "source": source_check(provenance, offered),
            "disk": disk_check(reactor, folders),
        }
        self.readiness = Readiness(reactor, checks)
        self.operations = Operations(self.readiness, self.metrics.registry, private)

    def built(self, record: Record) -> None:
        """A build has ended."""
        self.metrics.built(record.outcome, record.timing.phases, record.timing.layers)

    def read_from(
        self, builder: Builder, cache: Cache, bounds: Bounds, processes: Processes, packers: Packers
    ) -> None:
        """Have metrics read from the parts."""
        queue = builder.queue
        self.metrics.read_from(
            [
                Reading("nixery_builds_running", "Builds that run.", single(lambda: queue.running)),
                Reading(
                    "nixery_builds_waiting", "Builds that wait.", single(lambda: queue.waiting)
                ),
                Reading(
                    "nixery_builds_gave_way",
                    "Builds that gave their turn back to others.",
                    lambda: queue.gave_way,
                    "reason",
                    total=True,
                ),
                Reading(
                    "nixery_manifest_lookups",
                    "Manifests that were looked for by image key, and where they were found.",
                    lambda: cache.lookups,
                    "level",
                    total=True,
                ),
                Reading(
                    "nixery_connections",
                    "Connections that are open.",
                    single(lambda: bounds.connections.open),
                ),
                Reading(
                    "nixery_requests_running",
                    "Requests that are being answered.",
                    single(lambda: bounds.requests.running),
                ),
                Reading(
                    "nixery_unread_bytes",
                    "Bytes in memory that clients have not taken yet.",
                    single(lambda: bounds.untaken.total),
                ),
                Reading(
                    "nixery_refused",
                    "Requests and connections that were refused for a bound.",
                    lambda: bounds.refused,
                    "reason",
                    total=True,
                ),
                Reading(
                    "nixery_children",
                    "Processes that the daemon has started and that run.",
                    lambda: {"nix": len(processes), "packing": len(packers)},
                    "kind",
                ),
                Reading(
                    "nixery_packing_replaced_blocks",
                    "Blocks of layers that were compressed wrongly, and then in another way.",
                    single(lambda: packers.replaced),
                    total=True,
                ),
                Reading(
                    "nixery_disk_free_bytes",
                    "Room on the disk of a folder.",
                    lambda: self._disks.free,
                    "folder",
                ),
                Reading(
                    "nixery_disk_size_bytes",
                    "Size of the disk of a folder.",
                    lambda: self._disks.size,
                    "folder",
                ),
                Reading(
                    "nixery_reactor_lag_most_seconds",
                    "The latest that the reactor was in the last minute.",
                    single(lambda: self._lag.most),
                ),
            ]
        )

    def read_from_disk(self, storage: object, collector: Collector) -> None:
        """Have metrics read from what works in the background."""
        readings = [
            Reading(
                "nixery_nix_collections",
                "How often Nix was asked to make room.",
                single(lambda: collector.collections),
                total=True,
            )
        ]
        if isinstance(storage, FilesystemStorage):
            housekeeping = storage.housekeeping
            scrubber = housekeeping.scrubber
            readings += [
                Reading(
                    "nixery_storage_bytes",
                    "Bytes of the blobs in the storage, as far as known.",
                    single(lambda: housekeeping.size),
                ),
                Reading(
                    "nixery_storage_blobs",
                    "Blobs in the storage, when they were counted last.",
                    single(lambda: housekeeping.count),
                ),
                Reading(
                    "nixery_storage_dropped",
                    "Blobs that were dropped for others.",
                    single(lambda: housekeeping.dropped),
                    total=True,
                ),
                Reading(
                    "nixery_blobs_verified",
                    "Blobs that were verified in the background, and how they were.",
                    lambda: {
                        "good": scrubber.verified - scrubber.damaged,
                        "damaged": scrubber.damaged,
                    },
                    "state",
                    total=True,
                ),
            ]
        self.metrics.read_from(readings)

    def read_from_certificates(self, expiries: Callable[[], Sequence[float]]) -> None:
        """Have metrics read from what TLS is spoken with.

        :param expiries: says when each certificate expires, in seconds since 1970.
        """

        def first() -> dict[str, float]:
            times = expiries()
            return {"": min(times)} if times else {}

        reading = Reading(
            "nixery_certificate_expires_seconds",
            "When the certificate expires, in seconds since 1970.",
            first,
        )
        self.metrics.read_from([reading])

    def start(self) -> None:
        """Begin to watch."""
        self._lag.start()
        self._disks.start()

    def stop(self) -> None:
        """Watch no more."""
        self._lag.stop()
        self._disks.stop()
