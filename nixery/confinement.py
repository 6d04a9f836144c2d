"""How far evaluation is confined, by what settings say: made, not started."""

import os
import re
from collections.abc import Mapping

import attrs

from nixery.model.source import place_of
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Confinement, Evaluator
from nixery.nix.process import Processes, Surroundings
from nixery.nix.store import find_expressions, find_store
from nixery.parts import child_environment
from nixery.settings import Settings

_NAMED_FILE = re.compile(r"(?<==)/[^:\s]+")
_OF_NIX = re.compile(r"NIX_.*|.*_CERT_FILE|PATH|TMPDIR")
"""Variables that name what Nix and its programs are to read."""
_NEEDED = re.compile(
    r"NIX_.*|.*_CERT_FILE|.*_CERT_DIR|PATH|TMPDIR|HOME|USER|LOGNAME|LANG|LC_.*|LOCPATH|TZ|TZDIR"
    r"|XDG_.*|PYTHON.*|(?i:(?:https?|ftp|all|no)_proxy)"
    r"|GIT_SSL_.*|GIT_TERMINAL_PROMPT|GIT_ALLOW_PROTOCOL|GC_.*"
)
"""Variables that an evaluation's process has. A package may ask for any that there is when it is
built, so there are to be no tokens among them."""


def make_commands(settings: Settings, environ: Mapping[str, str], processes: Processes) -> Commands:
    """Nix's commands, on the store that there is."""
    store = find_store(settings.images.nix_store, settings.state, environ)
    confinement = make_confinement(settings, environ, store)
    return Commands(processes, store, None if confinement is None else confinement.for_fetching)


def make_evaluator(
    settings: Settings, environ: Mapping[str, str], processes: Processes, commands: Commands
) -> Evaluator:
    """What prepares Nix for evaluating, not started yet."""
    expressions = find_expressions(os.path.dirname(os.path.abspath(__file__)))
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
    if settings.evaluation.mode == "open":
        return None
    state, given = settings.state, child_environment(environ, settings.state)
    tls = settings.transport.tls or ()
    endpoints = f"{settings.address.endpoint} {settings.operations.endpoint}"
    files = [*tls, *attrs.astuple(settings.access), *_NAMED_FILE.findall(endpoints)]
    if settings.bucket is not None:
        files.append(settings.bucket.signing_key)
    files.append(environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    secret = [path for path in files if path is not None and os.path.isabs(path)]
    folders = [given["HOME"], state, settings.storage_path]
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
        hidden=tuple(os.path.realpath(path) for path in (*folders, *secret) if path.strip("/")),
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
