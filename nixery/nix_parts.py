"""The parts that work with Nix and package sources, made as settings want them."""

import os
import re
from collections.abc import Mapping
from typing import Any

import attrs

from nixery.interfaces import IResolver
from nixery.model.source import Flake, LocalFolder, canonical_sha256, place_of
from nixery.nix.commands import Commands, find_store
from nixery.nix.evaluation import Evaluator, find_expressions
from nixery.nix.folders import ConfiguredResolver, FolderResolver
from nixery.nix.git import Git
from nixery.nix.isolation import Confinement
from nixery.nix.process import Processes, Surroundings
from nixery.nix.remember import Memory
from nixery.nix.resolve import FlakeResolver, GitResolver
from nixery.nix.sources import Sources
from nixery.setting_groups import S3Choice
from nixery.settings import Settings
from nixery.starts import Starts

_PRIVATE = (
    "NIXERY_",
    "NIX_POPULARITY_URL",
    "GCS_",
    "GOOGLE_",
    "S3_",
    "LISTEN_",
    "NOTIFY_",
    "OTEL_",
)
_AMAZON = "AWS_"
"""Private where images are in a bucket of S3; otherwise Nix's, for a binary cache in one."""
_CREDENTIALS = (
    *("GOOGLE_APPLICATION_CREDENTIALS", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"),
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    *("OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"),
)
"""Variables that name files with credentials, of the bucket or of the collector of traces."""
_NAMED_FILE = re.compile(r"(?<==)/[^:\s]+")
_OF_NIX = re.compile(r"NIX_.*|.*_CERT_FILE|PATH|TMPDIR")
"""Variables that name what Nix and its programs are to read."""
_NEEDED = re.compile(
    r"NIX_.*|.*_CERT_FILE|.*_CERT_DIR|PATH|TMPDIR|HOME|USER|LOGNAME|LANG|LC_.*|LOCPATH|TZ|TZDIR"
    r"|XDG_.*|PYTHON.*|(?i:(?:https?|ftp|all|no)_proxy)"
    r"|GIT_SSL_.*|GIT_TERMINAL_PROMPT|GIT_ALLOW_PROTOCOL|GC_.*"
)
"""Variables that an evaluation's process has. A package may ask for any that there is when it is
built, so there must be no tokens among them."""


class NixParts:
    """Nix's commands, and all that turns a package source into something they can evaluate.

    Nothing is started yet.
    """

    def __init__(self, reactor: Any, settings: Settings, environ: Mapping[str, str]) -> None:
        """
        :param reactor: provides processes, time and threads.
        :param environ: the daemon's environment.
        """
        state, given = settings.state, _given(settings, environ)
        memory = settings.builds.memory
        self.processes = Processes(Starts(reactor), reactor, given, memory=memory)
        store = find_store(settings.images.nix_store, state, environ)
        confinement = make_confinement(settings, environ, store)
        fetching = None if confinement is None else confinement.for_fetching
        self.commands = Commands(reactor, self.processes, store, fetching)
        expressions = find_expressions(os.path.dirname(os.path.abspath(__file__)))
        self.evaluator = Evaluator(self.processes, self.commands, expressions, confinement)
        self.git = Git(reactor, self.processes, os.path.join(state, "git"))
        self.sources = Sources(reactor, self.commands, self.git, os.path.join(state, "sources"))
        self.resolver = self._resolver(reactor, settings)
        if (told := settings.packages.configuration) is not None:
            self.resolver = ConfiguredResolver(reactor, self.resolver, told)

    def _resolver(self, reactor: Any, settings: Settings) -> IResolver:
        """The resolver of the configured package source's tags."""
        packages, revisions, source = (
            settings.packages,
            settings.revisions,
            settings.packages.source,
        )
        if isinstance(source, LocalFolder):
            return FolderResolver(reactor, self.git, source)
        # What is known of one source is not to be taken for another's.
        name = canonical_sha256([type(source).__name__, attrs.asdict(source)])
        path = os.path.join(settings.state, "revisions", f"{name[:32]}.json")
        memory = Memory(reactor, revisions.ttl, revisions.stale_if_error, path)
        if isinstance(source, Flake):
            return FlakeResolver(self.commands, source, memory)
        return GitResolver(self.git, source, memory, packages.tags, packages.unreachable_commits)


def make_confinement(
    settings: Settings, environ: Mapping[str, str], store: str | None
) -> Confinement | None:
    """The limits of evaluation, which is kept from the daemon's state, storage, keys and home.

    :param environ: the daemon's environment.
    :param store: the folder of its own Nix store, if it has one.
    :return: none if it is kept from nothing.
    """
    if settings.evaluation.mode == "open":
        return None
    state, given = settings.state, _given(settings, environ)
    endpoints = f"{settings.address.endpoint} {settings.operations.endpoint}"
    # What Nix is given may name files that it is to read.
    credentials = [environ.get(name, "") for name in _CREDENTIALS if name not in given]
    files = [*settings.files, *_NAMED_FILE.findall(endpoints), *credentials]
    folders = [given["HOME"], state, settings.storage_path]
    hidden = [*folders, *filter(os.path.isabs, files)]
    cache = os.path.join(given["XDG_CACHE_HOME"], "nix")
    programs, fetchers = (os.path.join(state, "programs", n) for n in ("evaluating", "fetching"))
    search = given.get("PATH", os.defpath)
    # Of the others, those of the state folder hold links that keep what is in the store.
    own = [cache, *(os.path.join(state, name) for name in ("roots", "kept", "sources"))]
    own += [store] if store is not None else []
    needed = [programs, given.get("XDG_CONFIG_HOME", f"{given['HOME']}/.config") + "/nix"]
    told = (value for name, value in given.items() if _OF_NIX.fullmatch(name))
    needed += [word for value in told for word in re.split(r"[:=]", value) if os.path.isabs(word)]
    return Confinement(
        uris=settings.evaluation.allowed_uris,
        hidden=tuple(os.path.realpath(path) for path in hidden if path.strip("/")),
        own=tuple(own),
        shown=tuple(path for path in needed if path not in folders),
        programs=programs,
        cache=cache,
        fetching=Surroundings({**given, "PATH": f"{fetchers}:{search}"}),
        place=place_of(settings.packages.source) or None,
        environ={
            "NIX_PATH": "",  # or it would be what the home's channels are
            **{name: value for name, value in given.items() if _NEEDED.fullmatch(name)},
            "PATH": f"{programs}:{search}",
        },
    )


def _given(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    return child_environment(environ, settings.state, isinstance(settings.bucket, S3Choice))


def child_environment(
    environ: Mapping[str, str], state: str, in_s3: bool = False
) -> dict[str, str]:
    """The part of the daemon's environment that Nix and git see.

    Its own secrets are left out, since a package set can read environment variables; what they
    need and may lack under a service manager is added.

    :param in_s3: whether images are kept in a bucket of S3.
    """
    private = (*_PRIVATE, _AMAZON) if in_s3 else _PRIVATE
    kept = {name: value for name, value in environ.items() if not name.startswith(private)}
    defaults = {
        "HOME": state,
        "USER": str(os.getuid()),  # Nix wants either this or an entry in passwd
        "XDG_CACHE_HOME": os.path.join(state, "cache"),
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }
    # A prompt would wait for ever; ext:: and the like would run what a URL says.
    forced = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    return {**defaults, **kept, **forced}
