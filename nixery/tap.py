"""``twistd nixery``: its options, and the service put together of all parts."""

import os
import shutil
import sys
from typing import Any, ClassVar, NoReturn

import attrs
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import react
from twisted.python.usage import Options as UsageOptions

from nixery.access.files import make_access
from nixery.access.watched import FileInvalid
from nixery.confinement import make_confinement
from nixery.descriptors import keep_to_ourselves, make_room
from nixery.model.source import Flake, Folder, Source
from nixery.model.tags import LATEST
from nixery.nix.evaluation import mode_of
from nixery.nix.store import find_store
from nixery.ownership import NotOurs
from nixery.ownership import check as check_folder
from nixery.parts import make_agent, make_storage
from nixery.registry import Listening, make_service
from nixery.settings import Settings, SettingsInvalid
from nixery.systemd import inherited_endpoint
from nixery.variables import SOURCES, VARIABLES, Variable
from nixery.watching.logs import json_observer
from nixery.web.door import DoorEndpoint
from nixery.web.tls import Pair, TLSEndpoint, split_endpoint, watch_pair

PROGRAMS = {
    "nix-build": "Nix",
    "nix": "Nix",
    "git": "git",
    "prlimit": "util-linux",
    "nice": "coreutils",
}
"""The programs that are run, and what they belong to."""
BACKLOG = 4096
"""Connections that may wait to be taken; the kernel's own limit may be lower."""


def _parameter(variable: Variable) -> list[Any]:
    default = f" [default: {variable.default}]" if variable.default else ""
    return [variable.option, None, None, f"{variable.help} (${variable.name}){default}"]


class Options(UsageOptions):
    """One option for every environment variable; options win."""

    longdesc = "Every option may be given as the environment variable in brackets instead."
    optParameters: ClassVar = [_parameter(variable) for variable in VARIABLES]
    optFlags: ClassVar = [["check", None, "Check the settings, print what would run, and stop."]]

    settings: Settings

    def postOptions(self) -> None:
        given = {v.name: self[v.option] for v in VARIABLES if self[v.option] is not None}
        # One way of naming the package set stands against all others.
        replaced = SOURCES if given.keys() & set(SOURCES) else ()
        environ = {name: text for name, text in os.environ.items() if name not in replaced} | given
        if not environ.get("NIXERY_LISTEN") and (inherited := inherited_endpoint()) is not None:
            environ["NIXERY_LISTEN"] = inherited
        faults = missing_programs()
        try:
            self.settings = Settings.from_environ(environ)
        except SettingsInvalid as invalid:
            faults = invalid.faults + faults
        else:
            faults += endpoint_faults(self.settings) + file_faults(self.settings)
            faults += folder_faults(self.settings)
        if faults:
            _give_up(faults)
        if self["check"]:
            print(describe(self.settings))
            for remark in file_remarks(self.settings):
                print(f"nixery: warning: {remark}", file=sys.stderr)
            if faults := storage_faults(self.settings):
                _give_up(faults)
            raise SystemExit(0)


def _give_up(faults: list[str]) -> NoReturn:
    """End with every fault named; twistd's own way prints the whole help and exits with 0."""
    for fault in faults:
        print(f"nixery: {fault}", file=sys.stderr)
    raise SystemExit(1)


def missing_programs() -> list[str]:
    """A sentence for each program that is needed and not there."""
    return [
        f"the program {program!r} is not in PATH: install {package}"
        for program, package in PROGRAMS.items()
        if shutil.which(program) is None
    ]


def endpoint_faults(settings: Settings) -> list[str]:
    """A sentence for each endpoint string that is none, or whose certificate can't be used.

    To find that out, Twisted needs no reactor.
    """
    faults: list[str] = []
    named = [("NIXERY_LISTEN", settings.endpoint)]
    if settings.operations is not None:
        named.append(("NIXERY_OPERATIONS_LISTEN", settings.operations))
    for name, text in named:
        try:
            rest, pair = split_endpoint(text)
            serverFromString(None, rest)
            if pair is not None:
                watch_pair(pair)
        except Exception as error:  # every kind of endpoint has its own way of refusing
            faults.append(f"{name} is {text!r}; it can't be listened on: {error}")
    return faults


def file_faults(settings: Settings) -> list[str]:
    """A sentence for each file that is named and can't be used."""
    faults: list[str] = []
    try:
        make_access(None, settings.access)
    except ExceptionGroup as group:
        faults += [str(fault) for fault in group.exceptions]
    if settings.tls is not None:
        try:
            watch_pair(Pair(*settings.tls))
        except FileInvalid as fault:
            faults.append(f"{settings.tls[0]}, {settings.tls[1]}: {fault}")
    return faults


def file_remarks(settings: Settings) -> list[str]:
    """What an operator should know of files that can be used: a sentence for each."""
    watched = make_access(None, settings.access).watched
    return [remark for each in watched for remark in each.remarks()]


def folder_faults(settings: Settings) -> list[str]:
    """A sentence for each folder that would be written to and is somebody else's."""
    faults: list[str] = []
    for name, path in settings.folders.items():
        try:
            check_folder(path, settings.paths)
        except (NotOurs, OSError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            faults.append(f"{path} can't be the {name} folder: {reason}")
    return faults


def describe(settings: Settings) -> str:
    """What would run, for an operator to read."""
    store = find_store(settings.nix_store, settings.state, os.environ)
    return "\n".join(
        [
            f"listens on   {settings.endpoint}",
            f"may pull     {_who_may_pull(settings)}",
            f"packages     {_whole_name(settings.source)}",
            f"tags         {_what_may_be_named(settings)}",
            f"evaluation   {_what_evaluation_may(settings, store)}",
            f"storage      {_where_images_are(settings)}",
            f"Nix          {shutil.which('nix-build')}, store {store or '/nix/store'}",
            f"state        {settings.state}",
            f"layers       at most {settings.layer_budget}, compressed {settings.compression}",
            f"builders     at most {settings.nix_timeout} s each",
            f"requests     held for {settings.hold:g} s, then redirected to themselves",
        ]
    )


def _whole_name(source: Source) -> str:
    return f"the folder {source.path}" if isinstance(source, Folder) else str(source)


def _what_may_be_named(settings: Settings) -> str:
    patterns = settings.tags.patterns
    if isinstance(settings.source, Folder | Flake) or not patterns:
        return LATEST
    which = "in the histories of these"
    if settings.unreachable_commits:
        which = "of pull requests and forks too"
    return f"{LATEST} {' '.join(patterns)}; commits {which}"


def _who_may_pull(settings: Settings) -> str:
    access = settings.access
    ways = [
        *(["passwords"] if access.htpasswd else []),
        *(["static tokens"] if access.tokens else []),
        *([f"tokens of {settings.token_server}"] if access.jwt_key else []),
    ]
    who = f"users with {', '.join(ways)}" if ways else "everybody"
    return f"{who}, as {access.rules} says" if access.rules else who


def _what_evaluation_may(settings: Settings, store: str | None) -> str:
    mode = mode_of(make_confinement(settings, os.environ, store))
    if settings.evaluation == "open":
        return mode
    path = os.environ.get("NIX_PATH")
    fetch = f"; it may fetch from {', '.join(settings.allowed_uris)}" * bool(settings.allowed_uris)
    return f"{mode}{fetch}" + (f"; it may read what NIX_PATH names: {path}" if path else "")


def _where_images_are(settings: Settings) -> str:
    if settings.bucket is None:
        return settings.storage_path
    way = "load from it" if settings.bucket.redirect else "get copies from here"
    return f"gs://{settings.bucket.name}; clients {way}"


def storage_faults(settings: Settings) -> list[str]:
    """What is wrong with the bucket, if images are kept in one. Runs a reactor until it knows."""
    found: list[str] = []

    async def look(reactor: Any) -> None:
        agent = make_agent(reactor)
        storage = make_storage(reactor, agent, settings, os.environ)
        assert settings.bucket is not None
        found.extend(f"gs://{settings.bucket.name}: {fault}" for fault in await storage.faults())

    if settings.bucket is None:
        return []
    try:
        react(lambda reactor: Deferred.fromCoroutine(look(reactor)))
    except SystemExit as end:
        if end.code and not found:
            return ["the bucket could not be looked at; the log says why"]
    return found


def with_backlog(endpoint: str) -> str:
    """An endpoint string with room for newcomers that come all at once.

    Twisted's own is for 50: the kernel drops what comes beyond, and clients try again after a
    second.
    """
    if endpoint.partition(":")[0] not in ("tcp", "tcp6", "unix") or ":backlog=" in endpoint:
        return endpoint
    return f"{endpoint}:backlog={BACKLOG}"


def makeService(options: Options) -> IService:
    """Put the daemon together. The only place that knows the global reactor."""
    from twisted.internet import reactor

    keep_to_ourselves()
    settings = attrs.evolve(options.settings, http=make_room(options.settings.http))
    pair = Pair(*settings.tls) if settings.tls is not None else None
    endpoint = _listen(reactor, settings.endpoint, pair)
    text = settings.operations
    operations = _listen(reactor, text) if text is not None else None
    service = make_service(reactor, settings, os.environ, endpoint, operations)
    if settings.log_format == "json":
        service.observer = json_observer(options.parent["logfile"] if options.parent else None)
    return service


def _listen(reactor: Any, text: str, pair: Pair | None = None) -> Listening:
    """The endpoint of an endpoint string without :func:`endpoint_faults`.

    :param pair: what TLS is spoken with there; none for what the string says.
    """
    rest, own = split_endpoint(text)
    endpoint: IStreamServerEndpoint = serverFromString(reactor, with_backlog(rest))
    pair = pair or own
    certificate = None if pair is None else watch_pair(pair)
    if certificate is not None:
        endpoint = TLSEndpoint(endpoint, certificate)
    door = DoorEndpoint(reactor, endpoint, is_tls=certificate is not None)
    return Listening(door, certificate)
