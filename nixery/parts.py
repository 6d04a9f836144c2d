"""The parts that settings choose: made, not started."""

import os
import re
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.web.client import Agent, HTTPConnectionPool

import nixery
from nixery.interfaces import IResolver
from nixery.model.source import Flake, Folder, canonical_sha256
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Confinement, Evaluator
from nixery.nix.folders import ConfiguredResolver, FolderResolver
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.remember import Memory
from nixery.nix.resolve import FlakeResolver, GitResolver
from nixery.nix.sources import Sources
from nixery.nix.store import find_expressions
from nixery.settings import Settings
from nixery.storage.filesystem import FilesystemStorage
from nixery.storage.housekeeping import Bounds

_CONNECTIONS = 16  # that are kept to one host
_PRIVATE = ("NIXERY_", "NIX_POPULARITY_URL", "GCS_", "GOOGLE_", "LISTEN_", "NOTIFY_")
_NAMED_FILE = re.compile(r"(?<==)/[^:\s]+")
_OF_NIX = re.compile(r"NIX_.*|.*_CERT_FILE|PATH|TMPDIR")
"""Variables that name what Nix and its programs are to read."""
_NEEDED = re.compile(
    r"NIX_.*|.*_CERT_FILE|.*_CERT_DIR|PATH|TMPDIR|HOME|USER|LOGNAME|LANG|LC_.*|LOCPATH|TZ|TZDIR"
    r"|XDG_.*|PYTHON.*|(?i:(?:https?|ftp|all|no)_proxy)|GIT_SSL_.*|GIT_TERMINAL_PROMPT|GC_.*"
)
"""Variables that an evaluation's process has. A package may ask for any that there is when it is
built, so there are to be no tokens among them."""


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
        disk = settings.disk
        bounds = Bounds(disk.storage_max, disk.storage_grace, disk.scrub_days)
        return FilesystemStorage(reactor, settings.storage_path, bounds)
    # Google's libraries take a quarter of a second and 15 MB.
    from nixery.storage.gcs.making import BucketSettings
    from nixery.storage.gcs.making import make_storage as make_gcs_storage
    from nixery.storage.gcs.storage import Options as BucketOptions

    options = BucketOptions(redirect=chosen.redirect)
    bucket = BucketSettings(
        chosen.name, chosen.signing_key, chosen.signing_account, chosen.url_lifetime, options
    )
    return make_gcs_storage(reactor, agent, bucket, environ)


def make_git(reactor: Any, settings: Settings, processes: Processes) -> Git:
    """git, with its repositories in the state folder."""
    return Git(reactor, processes, os.path.join(settings.state, "git"))


def make_sources(reactor: Any, settings: Settings, commands: Commands, git: Git) -> Sources:
    """What fetches package sources into the Nix store."""
    return Sources(reactor, commands, git, os.path.join(settings.state, "sources"))


def make_evaluator(
    settings: Settings, environ: Mapping[str, str], processes: Processes, commands: Commands
) -> Evaluator:
    """What prepares Nix for evaluating, not started yet."""
    expressions = find_expressions(os.path.dirname(os.path.abspath(nixery.__file__)))
    confinement = make_confinement(settings, environ, commands.store)
    return Evaluator(processes, commands, expressions, confinement)


def make_confinement(
    settings: Settings, environ: Mapping[str, str], store: str | None
) -> Confinement | None:
    """What evaluation is kept from: the daemon's state, storage, keys and home.

    :param environ: the daemon's environment.
    :param store: the folder of its own Nix store, if it has one.
    :return: none if it is kept from nothing.
    """
    if settings.evaluation == "open":
        return None
    state, given = settings.state, child_environment(environ, settings.state)
    tls = settings.tls or ()
    endpoints = f"{settings.endpoint} {settings.operations}"
    files = [*tls, *attrs.astuple(settings.access), *_NAMED_FILE.findall(endpoints)]
    if settings.bucket is not None:
        files.append(settings.bucket.signing_key)
    files.append(environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    secret = [path for path in files if path is not None and os.path.isabs(path)]
    folders = [given["HOME"], state, settings.storage_path]
    cache = os.path.join(given["XDG_CACHE_HOME"], "nix")
    programs = os.path.join(state, "evaluation")
    # The rest of what is in the state folder and Nix uses are links that keep what is in its store.
    needed = [
        cache,
        programs,
        *(os.path.join(state, name) for name in ("roots", "kept", "sources")),
    ]
    if store is not None:
        needed.append(store)
    needed.append(given.get("XDG_CONFIG_HOME", f"{given['HOME']}/.config") + "/nix")
    told = (value for name, value in given.items() if _OF_NIX.fullmatch(name))
    needed += [word for value in told for word in re.split(r"[:=]", value) if os.path.isabs(word)]
    return Confinement(
        uris=settings.allowed_uris,
        hidden=tuple(path for path in (*folders, *secret) if path.strip("/")),
        shown=tuple(path for path in needed if path not in folders),
        programs=programs,
        cache=cache,
        environ={
            "NIX_PATH": "",  # or it would be what the home's channels are
            **{name: value for name, value in given.items() if _NEEDED.fullmatch(name)},
            "PATH": f"{programs}:{given.get('PATH', os.defpath)}",
        },
    )


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
    return GitResolver(git, source, memory, settings.tags)


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
