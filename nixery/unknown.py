"""Settings that do not exist, and what was probably meant.

A typo matters: with ``NIXERY_HTPASWD`` the registry would be open to everybody.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from nixery.model.suggestions import nearest_names

PREFIX = "NIXERY_"
URL, TOKEN = OF_COMMAND = ("NIXERY_URL", "NIXERY_API_TOKEN")
"""Variables of the command ``nixery`` where it asks a daemon: which one, and with what token. The
daemon passes them over."""
_OF_TESTS = re.compile(r"NIXERY_(TEST|CHAOS)_.*")
"""Variables of the project's own tests, whose daemons have the environment of the tests."""
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S*")
_LINK = re.compile(
    r"NIXERY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in every container for a Service that is named ``nixery``, or
``nixery-`` and more: https://kubernetes.io/docs/concepts/services-networking/service/"""
_LINK_PORT = re.compile(r"NIXERY_(\w+_)?PORT")


def unknown_variables(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """A sentence for each variable that begins as Nixery's own do and is none of them.

    Its value is left out: it may be a secret.

    :param known: the names of all settings.
    """
    others = {*service_links(environ, known), *known, *OF_COMMAND}
    unknown = (
        name
        for name in environ
        if name.upper().startswith(PREFIX) and name not in others and not _OF_TESTS.fullmatch(name)
    )
    return [f"{name} is not a setting{_meant(name, known)}" for name in sorted(unknown)]


def service_links(environ: Mapping[str, str], known: Collection[str]) -> list[str]:
    """The variables that are not settings, but set by Kubernetes for a Service."""
    return sorted(name for name in environ.keys() - set(known) if _is_link(name, environ[name]))


def unknown_option(option: str, options: Iterable[str]) -> str:
    """A sentence for an option that does not exist.

    :param option: as it was given, with or without dashes before it.
    :param options: the names of all options, without dashes.
    """
    name = option.lstrip("-")
    nearest = [f"--{each}" for each in _nearest(name, list(options))]
    dashes = "-" if len(name) == 1 else "--"
    return f"there is no option {dashes}{name}{_question(nearest)} --help lists all options"


def _is_link(name: str, value: str) -> bool:
    if _LINK.fullmatch(name):
        return True
    # A person could mean a setting by this name: the value tells.
    return _LINK_PORT.fullmatch(name) is not None and _LINK_ADDRESS.fullmatch(value) is not None


def _meant(name: str, known: Collection[str]) -> str:
    """The setting that may be meant: names are compared without the beginning that all share."""
    short = {each.removeprefix(PREFIX): each for each in known}
    nearest = [short[each] for each in _nearest(name[len(PREFIX) :], list(short))]
    return f"{_question(nearest)} twistd nixery --help lists all settings"


def _nearest(name: str, names: list[str]) -> list[str]:
    return nearest_names(name, names)[:1]


def _question(nearest: list[str]) -> str:
    return f"; did you mean {nearest[0]}?" if nearest else ";"
