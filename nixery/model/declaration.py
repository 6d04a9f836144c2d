"""The settings that a package has for images with it: the attribute ``passthru.image``.

The attribute is a set with the names of ``docs/images.md``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nixery.model.closure import Graph, store_name
from nixery.model.package_errors import EvaluationFailed
from nixery.model.suggestions import nearest_names
from nixery.model.tree import File

_MOST = 100_000  # characters of all that a package says
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(
    r"(?:[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9})(?::(?:[a-z_][a-z0-9_-]{0,31}|[0-9]{1,9}))?"
)
# No more than Linux takes: a step has 255 bytes at most, a path 4,095.
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\0]+)+")
_LONGEST_STEP, _LONGEST_PATH = 255, 4095
_PORT = re.compile(r"([0-9]{1,5})(/(?:tcp|udp|sctp))?")
_STORE_PATH = re.compile(r"/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+\-._?=]+")
_MODE = re.compile(r"0?[0-7]{3}")
# Of the store, and what container runtimes mount.
_RESERVED = ("/nix/", "/proc/", "/sys/", "/dev/")


@attrs.frozen
class Declaration:
    """A package's settings for images.

    :param attribute: the attribute path of the package.
    :param entrypoint: program and first arguments.
    :param command: program and arguments, or the arguments of the entry point.
    :param environment: environment variables.
    :param user: name or number, with a group behind a colon.
    :param folder: the working directory.
    :param labels: of the config.
    :param ports: such as ``8080/tcp``, that a service listens at.
    :param volumes: paths of folders that are to outlive a container.
    :param files: absolute path → what is there.
    """

    attribute: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = attrs.Factory(dict)
    user: str = ""
    folder: str = ""
    labels: Mapping[str, str] = attrs.Factory(dict)
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    files: Mapping[str, File] = attrs.Factory(dict)

    def check_paths(self, graph: Graph) -> None:
        """Check that an image holds all store paths that are named here.

        :param graph: the closure of the image's packages.
        :raises EvaluationFailed: if one is not.
        """
        texts = [
            *(*self.entrypoint, *self.command, self.folder),
            *self.environment.values(),
            *(file.content for file in self.files.values()),
        ]
        for path in (path for text in texts for path in _STORE_PATH.findall(text)):
            if path not in graph:
                raise EvaluationFailed(
                    f"{self.attribute}.passthru.image refers to {store_name(path)}, which the "
                    "package does not need at run time, so it is not in the image"
                )


def parse_declaration(attribute: str, said: Any) -> Declaration:
    """Read the attribute, given as JSON.

    :param attribute: the attribute path of the package.
    :raises EvaluationFailed: naming the attribute that is not what it should be.
    """
    if not isinstance(said, dict):
        raise _fault(attribute, "", "a set")
    if len(str(said)) > _MOST:
        raise EvaluationFailed(f"{attribute}.passthru.image has more than {_MOST:,} characters")
    values: dict[str, Any] = {}
    for name, value in said.items():
        if name not in _FIELDS:
            near = nearest_names(name, list(_FIELDS)) or list(_FIELDS)
            raise EvaluationFailed(
                f"{attribute}.passthru.image has the unknown attribute {name[:100]!r}; "
                f"did you mean {' or '.join(near)}?"
            )
        field, read, expected = _FIELDS[name]
        try:
            values[field] = read(value)
        except (ValueError, TypeError, AttributeError):
            raise _fault(attribute, f".{name}", expected) from None
    return Declaration(attribute, **values)


def _fault(attribute: str, name: str, expected: str) -> EvaluationFailed:
    return EvaluationFailed(f"{attribute}.passthru.image{name} must be {expected}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError
    return value


def _matching(pattern: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not pattern.fullmatch(_text(value)):
            raise ValueError
        return str(value)

    return read


def _path(value: Any) -> str:
    path = _matching(_PATH)(value)
    encoded = path.encode("utf-8", "surrogatepass")
    if len(encoded) > _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_STEP:
        raise ValueError
    return path


def _list_of(read: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    def read_list(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise ValueError
        return tuple(map(read, value))

    return read_list


def _set_of(name: Callable[[Any], str], read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_set(value: Any) -> dict[str, Any]:
        return {name(key): read(value[key]) for key in sorted(value.keys())}

    return read_set


def _label(value: Any) -> str:
    if not _text(value):
        raise ValueError
    return str(value)


def _port(value: Any) -> str:
    match = _PORT.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError
    return f"{int(match[1])}{match[2] or '/tcp'}"


def _place(value: Any) -> str:
    if f"{_path(value)}/".startswith(_RESERVED):
        raise ValueError
    return str(value)


def _name(value: Any) -> str:
    """The path of a file; to clients, a name that begins with ``.wh.`` deletes what others have."""
    if "/.wh." in _place(value):
        raise ValueError
    return str(value)


def _file(value: Any) -> File:
    if isinstance(value, str):
        return File(_text(value))
    if value.keys() - {"text", "mode"}:
        raise ValueError
    mode = value.get("mode", "0644")
    if not _MODE.fullmatch(_text(mode)):
        raise ValueError
    return File(_text(value["text"]), int(mode, 8))


_FIELDS: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "entrypoint": ("entrypoint", _list_of(_text), "a list of strings"),
    "cmd": ("command", _list_of(_text), "a list of strings"),
    "env": (
        "environment",
        _set_of(_matching(_NAME), _text),
        "a set of strings, by the names of environment variables",
    ),
    "user": ("user", _matching(_USER), "a user's name or number, such as 'user' or '1000:1000'"),
    "workingDir": ("folder", _path, "an absolute path"),
    "labels": ("labels", _set_of(_label, _text), "a set of strings"),
    "exposedPorts": ("ports", _list_of(_port), "a list of ports, such as 8080 or '53/udp'"),
    "volumes": ("volumes", _list_of(_place), "a list of absolute paths"),
    "files": (
        "files",
        _set_of(_name, _file),
        "a set of absolute paths, of which each is a string or { text; mode; }",
    ),
}
"""Attribute of the set → attribute of a declaration, what reads it, what it must be."""
