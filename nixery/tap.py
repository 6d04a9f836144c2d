"""``twistd nixery``: its options, and the service put together of all parts."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import react
from twisted.python.usage import Options as UsageOptions
from twisted.web.server import Site

import nixery
from nixery.access.files import make_access
from nixery.access.watched import FileInvalid, Watch, Watched
from nixery.builds.builder import Builder
from nixery.builds.cache import Cache
from nixery.builds.catalogue import Catalogue
from nixery.builds.history import History, Limits
from nixery.builds.layers import LayerMaker
from nixery.interfaces import IStorage
from nixery.model.source import Folder, Source
from nixery.nix.commands import Commands
from nixery.nix.index import Indexer
from nixery.nix.popularity import PopularityTable
from nixery.nix.process import Processes
from nixery.nix.realise import Nix
from nixery.nix.store import find_expressions, find_store
from nixery.packing.workers import Packers
from nixery.parts import (
    child_environment,
    make_agent,
    make_git,
    make_resolver,
    make_sources,
    make_storage,
)
from nixery.service import RegistryService
from nixery.settings import Settings, SettingsInvalid
from nixery.variables import SOURCES, VARIABLES, Variable
from nixery.web.auth import Auth, TokenServer
from nixery.web.builds import BuildsApi
from nixery.web.packages import PackagesApi
from nixery.web.pages.site import PagesApi
from nixery.web.request import Trusted
from nixery.web.site import make_site
from nixery.web.tls import Pair, TLSEndpoint, split_endpoint, watch_pair

PROGRAMS = {
    "nix-build": "Nix",
    "nix": "Nix",
    "git": "git",
    "prlimit": "util-linux",
    "nice": "coreutils",
}
"""The programs that are run, and what they belong to."""


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
        try:
            self.settings = Settings.from_environ(environ)
        except SettingsInvalid as invalid:
            _give_up(invalid.faults)
        if missing := missing_programs():
            _give_up(missing)
        if faults := file_faults(self.settings):
            _give_up(faults)
        if self["check"]:
            print(describe(self.settings))
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


def describe(settings: Settings) -> str:
    """What would run, for an operator to read."""
    store = find_store(settings.nix_store, settings.state, os.environ)
    return "\n".join(
        [
            f"listens on   {settings.endpoint}",
            f"may pull     {_who_may_pull(settings)}",
            f"packages     {_whole_name(settings.source)}",
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


def _who_may_pull(settings: Settings) -> str:
    access = settings.access
    ways = [
        *(["passwords"] if access.htpasswd else []),
        *(["static tokens"] if access.tokens else []),
        *([f"tokens of {settings.token_server}"] if access.jwt_key else []),
    ]
    who = f"users with {', '.join(ways)}" if ways else "everybody"
    return f"{who}, as {access.rules} says" if access.rules else who


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


def makeService(options: Options) -> IService:
    """Put the daemon together. The only place that knows the global reactor."""
    from twisted.internet import reactor

    settings = options.settings
    try:
        text, pair = split_endpoint(settings.endpoint)
        endpoint = serverFromString(reactor, text)
        pair = Pair(*settings.tls) if settings.tls is not None else pair
        watched = [] if pair is None else [watch_pair(pair)]
    except Exception as error:  # every kind of endpoint has its own way of refusing
        _give_up([f"NIXERY_LISTEN is {settings.endpoint!r}; it can't be listened on: {error}"])
    if watched:
        endpoint = TLSEndpoint(endpoint, watched[0])
    return make_registry(reactor, settings, os.environ, endpoint, watched)


def make_registry(
    reactor: Any,
    settings: Settings,
    environ: Mapping[str, str],
    endpoint: IStreamServerEndpoint,
    watched: Sequence[Watched[Any]] = (),
) -> RegistryService:
    """Put the daemon together.

    :param reactor: provides what all parts need of one.
    :param environ: the daemon's environment: children get what is not private of it.
    :param watched: files of the endpoint's.
    """
    store = find_store(settings.nix_store, settings.state, environ)
    processes = Processes(reactor, child_environment(environ, settings.state))
    expressions = find_expressions(os.path.dirname(os.path.abspath(nixery.__file__)))
    commands = Commands(processes, store)
    git = make_git(reactor, settings, processes)
    sources = make_sources(reactor, settings, commands, git)
    nix = Nix(reactor, commands, sources, expressions, settings.state, settings.nix_timeout)
    agent = make_agent(reactor)
    storage = make_storage(reactor, agent, settings, environ)
    packers = Packers(reactor, reactor, settings.packers)
    cache = Cache(storage)
    layers = LayerMaker(storage, cache, nix, packers, settings.compression)
    resolver = make_resolver(reactor, settings, git, commands)
    popularity: dict[str, int] = {}  # filled before the first request is taken
    limits = Limits(settings.history_days * 86400, settings.history_size * 1_000_000)
    history = History(reactor, os.path.join(settings.state, "history"), limits)
    budget = settings.layer_budget
    builder = Builder(reactor, resolver, nix, storage, cache, layers, budget, popularity, history)
    indexer = Indexer(reactor, processes, commands, sources, expressions)
    catalogue = Catalogue(reactor, resolver, indexer, os.path.join(settings.state, "search"))
    access = make_access(reactor, settings.access)
    watch = Watch(reactor, [*watched, *access.watched])
    auth = Auth(access.guard, _token_server(settings))
    site = _make_site(reactor, settings, builder, storage, history, catalogue, auth)

    async def prepare() -> None:
        watch.start()
        await storage.start()
        git.start()
        await history.start()
        nix.start()
        if settings.popularity_url is not None:
            copy = os.path.join(settings.state, "popularity.json")
            table = PopularityTable(reactor, agent, settings.popularity_url, copy)
            popularity.update(await table.load())

    async def finish() -> None:
        watch.stop()
        await builder.stop()
        await catalogue.stop()
        await sources.stop()
        await resolver.stop()
        await history.stop()
        await processes.stop()
        await packers.stop()
        storage.stop()

    return RegistryService(reactor, endpoint, site, prepare, finish)


def _make_site(
    reactor: Any,
    settings: Settings,
    builder: Builder,
    storage: IStorage,
    history: History,
    catalogue: Catalogue,
    auth: Auth,
) -> Site:
    """The HTTP server, with as much of builds as settings allow to be seen."""
    pages, builds, packages = PagesApi(reactor, builder, None, False, auth), None, None
    if settings.pages != "off":
        logs = settings.pages == "all"
        pages = PagesApi(reactor, builder, history, logs, auth)
        builds = BuildsApi(reactor, history, logs, auth)
        packages = PackagesApi(catalogue, auth)
    trusted = Trusted.parse(settings.proxies)
    hold = settings.hold
    return make_site(reactor, builder, storage, hold, pages, builds, packages, auth, trusted)


def _token_server(settings: Settings) -> TokenServer | None:
    audience = settings.access.jwt_audience
    if settings.token_server is None or audience is None:
        return None
    return TokenServer(settings.token_server, audience)
