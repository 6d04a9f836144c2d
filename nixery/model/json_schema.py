"""JSON schemas of values, made from the classes that they are of."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schema_of(kind: Any, leave_out: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """The JSON schema of a class's values, as :func:`attrs.asdict` gives them.

    :param kind: a class of attrs, or one of the types that its fields have.
    :param leave_out: fields that are not told.
    :param more: schemas of what is told besides.
    :raises TypeError: for a type that JSON has none for.
    """
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if attrs.has(kind):
        hints = get_type_hints(kind)
        names = [field.name for field in attrs.fields(kind) if field.name not in leave_out]
        properties = {name: schema_of(hints[name]) for name in names} | more
        return {"type": "object", "properties": properties, "required": list(properties)}
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inside)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in inside]}
    if origin in (tuple, list, Sequence):
        return {"type": "array", "items": schema_of(inside[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": schema_of(inside[1])}
    raise TypeError(f"JSON has no schema for {kind!r}")


def array_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an array."""
    return {"type": "array", "items": schema}


def object_of(**properties: Any) -> dict[str, Any]:
    """The schema of an object, all of whose properties are there."""
    return {"type": "object", "properties": properties, "required": list(properties)}
