"""``twistd nixery``: its options and its service."""

import getopt
import os
import sys
from typing import Any, ClassVar, NoReturn, cast

import attrs
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from nixery import help as options_help
from nixery.checking import faults_of, missing_programs, remarks_on, try_all
from nixery.daemon import make_service
from nixery.describing import describe, links_words
from nixery.descriptors import keep_to_ourselves, make_room
from nixery.http.listening import listening_at
from nixery.http.tls import Pair
from nixery.requirements import version
from nixery.settings import NAMES, SETTINGS, SOURCES, Settings, SettingsInvalid
from nixery.systemd import inherited_endpoint
from nixery.terminal import Terminal
from nixery.unknown import service_links, unknown_option
from nixery.watching.logs import log_observer

_log = Logger()


class Options(UsageOptions):
    """One option for every environment variable; options win."""

    optParameters: ClassVar = [
        [each.option, None, None, options_help.text_of(each)] for each in SETTINGS
    ]
    optFlags: ClassVar = [["check", None, "Check the settings, print what would run, and stop."]]

    settings: Settings

    def getSynopsis(self) -> str:
        """The usage line, with the command as it was called."""
        if os.path.basename(sys.argv[0]) == "nixery":
            return "Usage: nixery serve [options]"
        return str(super().getSynopsis())

    def getUsage(self, width: int | None = None) -> str:
        """All options, in the chapters of docs/settings.md."""
        return options_help.usage(width or int(os.environ.get("COLUMNS") or 80))

    def opt_version(self) -> None:
        print(f"nixery {version()}")
        raise SystemExit(0)

    def parseOptions(self, options: Any = None) -> None:
        """Read the command line; a fault in it ends the program."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except UsageError as error:
            _give_up([self._usage_fault(error)])
        except BrokenPipeError:
            # The reader, such as head, is gone. Python flushes what is left when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments that are not options."""
        if arguments:
            word = arguments[0].partition("=")[0]  # the rest may be a secret
            raise UsageError(f"{word!r} is not an option: options begin with --; --help lists them")

    def postOptions(self) -> None:
        given = {s.variable: self[s.option] for s in SETTINGS if self[s.option] is not None}
        # An option for the package set replaces whatever names one in the environment.
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
            faults += faults_of(self.settings)
        if faults:
            _give_up(faults)
        if self["check"]:
            _check(self.settings)

    def _usage_fault(self, error: UsageError) -> str:
        cause = error.__context__
        if isinstance(cause, getopt.GetoptError) and "not recognized" in cause.msg:
            return unknown_option(cause.opt or "", [*self.docs, "help", "version"])
        return str(error)


def _check(settings: Settings) -> NoReturn:
    print(describe(settings), flush=True)
    tried = try_all(settings)
    for remark in [*remarks_on(settings), *tried.remarks]:
        print(f"nixery: warning: {remark}", file=sys.stderr)
    if tried.faults:
        _give_up(tried.faults)
    raise SystemExit(0)


def _give_up(faults: list[str]) -> NoReturn:
    """Print every fault and exit with 1; twistd would print the whole help and exit with 0."""
    for fault in faults:
        print(f"nixery: {fault}", file=sys.stderr)
    raise SystemExit(1)


def makeService(options: Options) -> IService:
    """Make the daemon. The only place that knows the global reactor."""
    from twisted.internet import reactor

    keep_to_ourselves()
    if links := service_links(os.environ, NAMES):
        _log.info("ignored variables: {links}", links=links_words(links))
    settings = attrs.evolve(options.settings, http=make_room(options.settings.http))
    pair = Pair(*settings.transport.tls) if settings.transport.tls is not None else None
    listening = listening_at(reactor, settings.address.endpoint, pair)
    text = settings.operations.endpoint
    operations = listening_at(reactor, text) if text is not None else None
    terminal = Terminal(options.parent)
    service = make_service(reactor, settings, os.environ, listening, operations, terminal)
    in_json = settings.operations.log_format == "json"
    twistd: Any = options.parent or {"nodaemon": True}
    service.observer = log_observer(cast(Any, reactor), twistd, in_json)
    return service
