"""JSON schemas of classes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import pytest
from openapi_schema_validator import OAS31Validator

from nixery.model.json_schema import array_of, object_of, schema_of


@attrs.frozen
class Inner:
    number: int


@attrs.frozen
class Outer:
    text: str
    inner: tuple[Inner, ...]
    many: Sequence[float]
    named: Mapping[str, str]
    word: Literal["a", "b"]
    perhaps: Inner | None = None
    secret: str = ""


SCHEMA = schema_of(Outer, leave_out=["secret"], more={"type": "boolean"})
GOOD: dict[str, Any] = {
    "text": "x",
    "inner": [{"number": 1}],
    "many": [0.5, 2],
    "named": {"a": "b"},
    "word": "a",
    "perhaps": None,
    "more": True,
}


def is_valid(value: object) -> bool:
    return bool(OAS31Validator(SCHEMA).is_valid(value))


def test_good() -> None:
    """A value as attrs gives it fits the schema of its class."""
    assert is_valid(GOOD)
    assert is_valid({**GOOD, "perhaps": {"number": 1}, "inner": [], "named": {}})


@pytest.mark.parametrize(
    "wrong",
    [
        *({"text": 1}, {"inner": [{"number": "1"}]}, {"inner": [{}]}, {"many": 1}),
        *({"named": {"a": 1}}, {"word": "c"}, {"perhaps": 1}, {"more": "yes"}),
    ],
)
def test_wrong(wrong: dict[str, object]) -> None:
    """Any other value does not, nor one that lacks something."""
    assert not is_valid({**GOOD, **wrong})
    lacking = {name: value for name, value in GOOD.items() if name not in wrong}
    assert not is_valid(lacking)


def test_no_schema() -> None:
    """A type that JSON has nothing for is a fault that shows."""
    with pytest.raises(TypeError):
        schema_of(bytes)
    assert array_of({}) == {"type": "array", "items": {}}
    assert object_of(a={})["required"] == ["a"]
