"""The parts that settings choose: made, not started."""

import os
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.web.client import Agent, HTTPConnectionPool

from nixery.interfaces import IResolver
from nixery.model.source import Flake, Folder, canonical_sha256
from nixery.nix.commands import Commands
from nixery.nix.folders import ConfiguredResolver, FolderResolver
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.remember import Memory
from nixery.nix.resolve import FlakeResolver, GitResolver
from nixery.nix.sources import Sources
from nixery.settings import Settings
from nixery.storage.filesystem.filesystem_storage import FilesystemStorage

_CONNECTIONS = 16  # that are kept to one host
_PRIVATE = ("NIXERY_", "NIX_POPULARITY_URL", "GCS_", "GOOGLE_", "LISTEN_", "NOTIFY_")


def make_agent(reactor: Any) -> Agent:
    """What HTTP requests go through, keeping connections for a minute."""
    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = _CONNECTIONS
    pool.cachedConnectionTimeout = 60
    return Agent(reactor, connectTimeout=10, pool=pool)


def make_storage(reactor: Any, agent: Agent, settings: Settings, environ: Mapping[str, str]) -> Any:
    """Where images are kept, not started yet."""
    chosen = settings.bucket
    if chosen is None:
        return FilesystemStorage(reactor, settings.storage_path, settings.disk)
    # Google's libraries take time and memory.
    from nixery.storage.objects.gcs import GcsBucket, GcsStore
    from nixery.storage.objects.object_storage import ObjectOptions, ObjectStorage

    bucket = GcsBucket(chosen.name, chosen.signing_key, chosen.signing_account)
    options = ObjectOptions(redirect=chosen.redirect, url_lifetime=chosen.url_lifetime)
    return ObjectStorage(reactor, GcsStore(reactor, agent, bucket, environ), options)


def make_git(reactor: Any, settings: Settings, processes: Processes) -> Git:
    """git, with its repositories in the state folder."""
    return Git(reactor, processes, os.path.join(settings.state, "git"))


def make_sources(reactor: Any, settings: Settings, commands: Commands, git: Git) -> Sources:
    """What fetches package sources into the Nix store."""
    return Sources(reactor, commands, git, os.path.join(settings.state, "sources"))


def make_resolver(reactor: Any, settings: Settings, git: Git, commands: Commands) -> IResolver:
    """What resolves the tags of the configured package source."""
    resolver = _resolver_of_source(reactor, settings, git, commands)
    if settings.configuration is None:
        return resolver
    return ConfiguredResolver(reactor, resolver, settings.configuration)


def _resolver_of_source(
    reactor: Any, settings: Settings, git: Git, commands: Commands
) -> IResolver:
    source = settings.source
    if isinstance(source, Folder):
        return FolderResolver(reactor, git, source)
    # What is known of one source is not to be taken for another's.
    name = canonical_sha256([type(source).__name__, attrs.asdict(source)])
    path = os.path.join(settings.state, "revisions", f"{name[:32]}.json")
    memory = Memory(reactor, settings.revision_ttl, settings.stale_if_error, path)
    if isinstance(source, Flake):
        return FlakeResolver(commands, source, memory)
    return GitResolver(git, source, memory, settings.tags, settings.unreachable_commits)


def child_environment(environ: Mapping[str, str], state: str) -> dict[str, str]:
    """What Nix and git see of the daemon's environment.

    Its own secrets are left out, since a package set can read environment variables; what they
    need and may lack under a service manager is added.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_PRIVATE)}
    defaults = {
        "HOME": state,
        "USER": str(os.getuid()),  # Nix wants either this or an entry in passwd
        "XDG_CACHE_HOME": os.path.join(state, "cache"),
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }
    # A prompt would wait for ever; ext:: and the like would run what a URL says.
    forced = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    return {**defaults, **kept, **forced}
