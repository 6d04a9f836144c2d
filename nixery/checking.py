"""Faults that keep the daemon from starting, or from doing its work: a sentence for each.

Each start checks settings, programs and files; ``--check`` tries everything else as well, and
leaves nothing behind.
"""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react

from nixery.access.configured import make_access
from nixery.access.watched import FileInvalid
from nixery.attest.signing_keys import KeyInvalid, read_signing_key, remarks_on_key
from nixery.describing import named_by
from nixery.http.listening import listening_fault
from nixery.http.tls import Pair, split_endpoint, watch_pair
from nixery.model.errors import NixeryError
from nixery.model.example import WANTED
from nixery.model.open_telemetry import collector_of, protocol_fault
from nixery.model.tags import LATEST
from nixery.nix.commands import find_store
from nixery.nix.offered import Offered
from nixery.nix.trial import TrialBuild, too_old
from nixery.nix_parts import NixParts
from nixery.ownership import NotOurs
from nixery.ownership import check as check_folder
from nixery.settings import Settings
from nixery.stores import make_storage

PROGRAMS = {
    "nix-build": "Nix",
    "nix": "Nix",
    "git": "git",
    "prlimit": "util-linux",
    "nice": "coreutils",
}
"""The programs that are run, and the packages that have them."""


def missing_programs() -> list[str]:
    """A sentence for each missing program."""
    return [
        f"the program {program!r} is not in PATH: install {package}"
        for program, package in PROGRAMS.items()
        if shutil.which(program) is None
    ]


def faults_of(settings: Settings) -> list[str]:
    """A sentence for each fault that shows without trying anything."""
    return [
        *(fault for name, text in _endpoints(settings) for fault in _endpoint_faults(name, text)),
        *_file_faults(settings),
        *_folder_faults(settings),
    ]


def remarks_on(settings: Settings) -> list[str]:
    """A sentence for each remark on files, and on variables of OpenTelemetry, that can be used all
    the same."""
    watched = make_access(None, settings.access).watched
    remarks = [remark for each in watched for remark in each.remarks()]
    remarks += [remark for path in settings.signing.keys for remark in remarks_on_key(path)]
    protocol = protocol_fault(os.environ) if collector_of(os.environ) else None
    return [*remarks, *filter(None, [protocol])]


def _endpoints(settings: Settings) -> list[tuple[str, str]]:
    """Variable → endpoint string."""
    named = [("NIXERY_LISTEN", settings.address.endpoint)]
    if settings.operations.endpoint is not None:
        named.append(("NIXERY_OPERATIONS_LISTEN", settings.operations.endpoint))
    return named


def _endpoint_faults(name: str, text: str) -> list[str]:
    """A sentence if it is not an endpoint string, or its certificate can't be used.

    Twisted needs no reactor to parse one.
    """
    try:
        rest, pair = split_endpoint(text)
        serverFromString(None, rest)
        if pair is not None:
            watch_pair(pair)
    except Exception as error:  # each kind of endpoint raises errors of its own
        return [f"{name} is {text!r}; it can't be listened on: {error}"]
    return []


def _file_faults(settings: Settings) -> list[str]:
    faults: list[str] = []
    try:
        make_access(None, settings.access)
    except ExceptionGroup as group:
        faults += [str(fault) for fault in group.exceptions]
    if settings.transport.tls is not None:
        try:
            watch_pair(Pair(*settings.transport.tls))
        except FileInvalid as fault:
            faults.append(f"{settings.transport.tls[0]}, {settings.transport.tls[1]}: {fault}")
    for path in settings.signing.keys:
        try:
            read_signing_key(path)
        except (KeyInvalid, OSError) as fault:
            faults.append(f"{path}: {getattr(fault, 'strerror', None) or fault}")
    return faults


def _folder_faults(settings: Settings) -> list[str]:
    """A sentence for each folder that would be written to and is not Nixery's."""
    faults: list[str] = []
    for name, path in settings.folders.items():
        try:
            check_folder(path, settings.paths)
        except (NotOurs, OSError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            faults.append(f"{path} can't be the {name} folder: {reason}")
    return faults


@attrs.frozen
class Tried:
    """The results of trying everything that a start needs.

    :param faults: a sentence for each thing that does not work.
    :param remarks: sentences that operators should know all the same.
    """

    faults: list[str] = attrs.Factory(list)
    remarks: list[str] = attrs.Factory(list)


def try_all(settings: Settings) -> Tried:
    """Try what a start needs: folders, Nix, the endpoints, the bucket, a build, the package set.

    Runs the reactor until all is known.
    """
    tried = Tried(unwritable(settings))
    if old := too_old(_printed("nix", "--version")):
        tried.faults.append(old)
        return tried

    async def look(reactor: Any) -> None:
        await _try_endpoints(reactor, settings, tried)
        await _try_bucket(reactor, settings, tried)
        await _try_nix(reactor, settings, tried)

    try:
        react(lambda reactor: Deferred.fromCoroutine(look(reactor)))
    except SystemExit as end:
        if end.code and not tried.faults:
            tried.faults.append("not everything could be tried; the log says why")
    return tried


def unwritable(settings: Settings) -> list[str]:
    """A sentence for each folder that this user can't write to, or can't make."""
    store = find_store(settings.images.nix_store, settings.state, os.environ)
    named = {
        **{path: f"the {name} folder" for name, path in settings.folders.items()},
        **({store: "the folder of the Nix store"} if store is not None else {}),
    }
    faults = []
    for path, what in named.items():
        there = path
        while not os.path.lexists(there) and there != os.path.dirname(there):
            there = os.path.dirname(there)
        if (reason := _why_not_writable(there)) is not None:
            faults.append(
                f"{path} can't be {what}: user {os.geteuid()} can't write to {there} ({reason}); "
                "give it to that user, or name another by STORAGE_PATH, NIXERY_NIX_STORE or "
                "STATE_DIRECTORY"
            )
    return faults


def _why_not_writable(folder: str) -> str | None:
    try:
        if not os.path.isdir(folder):
            return os.strerror(errno.ENOTDIR)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return os.strerror(errno.EROFS)
    except OSError as error:
        return error.strerror
    writable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
    return None if writable else os.strerror(errno.EACCES)


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


async def _try_endpoints(reactor: Any, settings: Settings, tried: Tried) -> None:
    for name, text in _endpoints(settings):
        if (fault := await listening_fault(reactor, text)) is not None:
            tried.faults.append(f"{name} is {text!r}; {fault}")


async def _try_bucket(reactor: Any, settings: Settings, tried: Tried) -> None:
    if settings.bucket is not None:
        storage = make_storage(reactor, settings, os.environ)
        place = settings.storage_url
        tried.faults.extend(f"{place}: {fault}" for fault in await storage.faults())
        tried.remarks.extend(f"{place}: {remark}" for remark in storage.remarks)


async def _try_nix(reactor: Any, settings: Settings, tried: Tried) -> None:
    """Build something, and evaluate the package set, in a temporary state folder."""
    with tempfile.TemporaryDirectory(prefix="nixery-check-", ignore_cleanup_errors=True) as state:
        settings = with_state(settings, state, os.environ)
        parts = NixParts(reactor, settings, os.environ)
        try:
            await _try_parts(parts, settings, tried)
        finally:
            await parts.processes.stop()
            _make_removable(state)


def with_state(settings: Settings, state: str, environ: Mapping[str, str]) -> Settings:
    """The settings with another state folder.

    A Nix store of the daemon's own is in there as well; the storage stays in its place, where it is
    hidden from evaluation.
    """
    has_store = find_store(settings.images.nix_store, settings.state, environ) is not None
    store = os.path.join(state, "nix") if has_store else None
    return attrs.evolve(
        settings,
        state=state,
        images=attrs.evolve(settings.images, nix_store=store),
        storage=attrs.evolve(settings.storage, folder=settings.storage_path),
    )


async def _try_parts(parts: NixParts, settings: Settings, tried: Tried) -> None:
    async def build() -> None:
        if remark := await TrialBuild(parts.commands, parts.evaluator).run():
            tried.remarks.append(remark)

    async def look() -> None:
        pinned = await parts.resolver.resolve(LATEST)
        looker = Offered(parts.commands, parts.evaluator, parts.sources, settings.systems[0])
        await looker.among(pinned, WANTED)

    await parts.evaluator.start()
    await _try(build, "", tried)
    await _try(look, f"{named_by(settings.packages.source)}: ", tried)
    await parts.sources.stop()
    await parts.resolver.stop()


async def _try(work: Callable[[], Coroutine[Any, Any, None]], beginning: str, tried: Tried) -> None:
    try:
        await work()
    except (NixeryError, OSError) as error:
        tried.faults.append(f"{beginning}{error}")


def _make_removable(folder: str) -> None:
    """Undo the removal of write permissions by which Nix protects a store."""
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
