"""From a tag to an immutable revision of the package source."""

import re

import attrs
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from nixery.interfaces import IResolver
from nixery.model.errors import SourceUnavailable, UnknownTag
from nixery.model.source import (
    NIXPKGS_URL,
    Channel,
    Folder,
    GitRepository,
    PinnedSource,
    hide_credentials,
)
from nixery.nix.fingerprint import Fingerprints
from nixery.nix.process import Processes

LATEST = "latest"
LS_REMOTE_LIMIT = 30.0
"""Seconds that a remote may take to name its revisions."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REMEMBERED = 1000


@implementer(IResolver)
class FolderResolver:
    """A folder has one revision, ``latest``: what is in it when it is asked for."""

    def __init__(self, reactor: IReactorThreads, source: Folder) -> None:
        self._reactor = reactor
        self._source = source
        self._fingerprints = Fingerprints()
        self._lock = DeferredLock()

    async def resolve(self, tag: str) -> PinnedSource:
        if tag != LATEST:
            raise UnknownTag(tag, f"{self._source}, which has {LATEST!r} alone")
        return PinnedSource(self._source, await self._lock.run(self._take))

    async def _take(self) -> str:
        pool = self._reactor.getThreadPool()
        try:
            return await deferToThreadPool(
                self._reactor, pool, self._fingerprints.take, self._source.path
            )
        except OSError as error:
            raise SourceUnavailable(str(self._source), error.strerror or str(error)) from error


@attrs.frozen
class _Known:
    revision: str
    until: float


@implementer(IResolver)
class GitResolver:
    """Branches, tags and commits of a repository, or of nixpkgs for a channel."""

    def __init__(
        self,
        clock: IReactorTime,
        processes: Processes,
        source: GitRepository | Channel,
        lifetime: float,
    ) -> None:
        """
        :param lifetime: seconds that an answer of the remote is kept.
        """
        self._clock = clock
        self._processes = processes
        self._source = source
        self._lifetime = lifetime
        self._known: dict[str, _Known] = {}

    async def resolve(self, tag: str) -> PinnedSource:
        if _COMMIT.fullmatch(tag):
            return PinnedSource(self._source, tag)
        known = self._known.get(tag)
        if known is None or known.until <= self._clock.seconds():
            revision = await self._ask(tag)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = _Known(revision, self._clock.seconds() + self._lifetime)
            self._known[tag] = known
        return PinnedSource(self._source, known.revision)

    async def _ask(self, tag: str) -> str:
        url = NIXPKGS_URL if isinstance(self._source, Channel) else self._source.url
        names = self._names(tag)
        errors: list[bytes] = []
        ended = await self._processes.run(
            ["git", "ls-remote", "--quiet", "--", url, *names], errors.extend, LS_REMOTE_LIMIT
        )
        if ended.timed_out:
            reason = f"no answer within {LS_REMOTE_LIMIT:.0f} s"
            raise SourceUnavailable(str(self._source), reason)
        if ended.code != 0:
            raise SourceUnavailable(str(self._source), _reason(errors))
        revisions = _parse_ls_remote(ended.output)
        for name in reversed(names):
            if name in revisions:
                return revisions[name]
        raise UnknownTag(tag, str(self._source))

    def _names(self, tag: str) -> list[str]:
        """Full names of what a tag may stand for, the one that counts most last."""
        if tag == LATEST and isinstance(self._source, GitRepository):
            return ["HEAD"]
        name = self._source.name if tag == LATEST and isinstance(self._source, Channel) else tag
        # An annotated tag's own id is no commit: the ^{} line names the one it stands on.
        return [f"refs/tags/{name}", f"refs/tags/{name}^{{}}", f"refs/heads/{name}"]


def _parse_ls_remote(output: bytes) -> dict[str, str]:
    lines = (line.split("\t", 1) for line in output.decode("utf-8", "replace").splitlines())
    return {fields[1]: fields[0] for fields in lines if len(fields) == 2}


def _reason(errors: list[bytes]) -> str:
    text = b"; ".join(line for line in errors if line.strip()).decode("utf-8", "replace")
    return hide_credentials(text).removeprefix("fatal: ")[:500] or "git gave no reason"
