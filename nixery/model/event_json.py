"""Events of a build as JSON documents, and back.

A document has the event's ``type`` in kebab-case, and its fields by their names. Whatever a
package printed, its text is ASCII: a line of one document is a line.
"""

import re
from collections.abc import Sequence
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, cast, get_args

import attrs

from nixery.model.events import Event, LogLine

_LONGEST = 4096
"""Characters of a text that are kept."""
_MOST = 200
"""Elements of a list that are kept."""


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()


_TYPES: dict[str, type[Any]] = {_kebab(kind.__name__): kind for kind in get_args(Event)}
_FIELDS: dict[type[Any], tuple[str, tuple[str, ...]]] = {
    kind: (name, tuple(field.name for field in attrs.fields(kind))) for name, kind in _TYPES.items()
}
_LOG_LINE = '{"id":%d,"time":%.3f,"type":"log-line","derivation":%s,"line":%s}\n'
_encode = JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def document(event: Event) -> dict[str, Any]:
    """An event as what JSON can hold."""
    name, fields = _FIELDS[type(event)]
    made: dict[str, Any] = {"type": name}
    for field in fields:
        value = getattr(event, field)
        made[field] = list(value) if isinstance(value, tuple) else value
    return made


def parse(made: Any) -> Event:
    """An event of its document; keys that are not the event's are passed over.

    :raises ValueError: if it is no event's.
    """
    name = made.get("type") if isinstance(made, dict) else None
    if not isinstance(name, str) or name not in _TYPES:
        raise ValueError("not an event")
    kind = _TYPES[name]
    values = {}
    for field in attrs.fields(kind):
        value = made.get(field.name)
        if not _fits(value, field.type) or field.name not in made:
            raise ValueError(f"not an event: {name} has no proper {field.name}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return cast(Event, kind(**values))


def line(number: int, seconds: float, event: Event) -> bytes:
    """An event in a line, with its end, as it is kept and sent.

    Texts of more than some KiB are cut, and say so.

    :param number: its place among the build's events.
    :param seconds: since the epoch.
    """
    if type(event) is LogLine:  # nearly all are, and this takes a quarter of the time
        fields = _quoted(_short(event.derivation)), _quoted(_short(event.line))
        return (_LOG_LINE % (number, seconds, *fields)).encode("ascii")
    made = {name: _short(value) for name, value in document(event).items()}
    return b'{"id":%d,"time":%.3f,%b\n' % (number, seconds, _encode(made)[1:].encode("ascii"))


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]}… ({len(value)} characters, cut)"
    if isinstance(value, list) and len(value) > _MOST:
        return [*value[:_MOST], f"… and {len(value) - _MOST} more"]
    return value


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return False
    if kind == Sequence[str]:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return isinstance(value, kind)
