"""Licences as SPDX license expressions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.attest.licences import Licensed, licensed, spdx_expression
from tests.attest.samples import LICENCES


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        ([], ""),
        (["MIT"], "MIT"),
        (["mit", "MIT"], "MIT"),
        (["MIT OR Apache-2.0"], "MIT OR Apache-2.0"),
        (["MIT OR Apache-2.0", "BSD-3-Clause"], "(MIT OR Apache-2.0) AND BSD-3-Clause"),
        (["GPL-2.0+"], "GPL-2.0-or-later"),
        (
            ["GPL-2.0-only WITH Classpath-exception-2.0"],
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ),
    ],
)
def test_known_licences(licences: list[str], expression: str) -> None:
    """What SPDX knows is an expression that says that all licences apply."""
    assert licensed(licences) == Licensed(expression)


@pytest.mark.parametrize(
    "name",
    [
        *("unfree", "MIT OR (", "Classpath-exception-2.0", "GPL-9.0-only", "NONE", "(" * 5000),
        "LicenseRef-scancode-unknown",
    ],
)
def test_licences_of_their_own(name: str) -> None:
    """What SPDX does not know has an identifier of its own, with its name."""
    found = licensed(["MIT", name])
    ((own, text),) = found.own.items()
    assert text == name
    assert found.expression == f"MIT AND {own}"
    assert spdx_expression(name) is None


@given(st.lists(LICENCES | st.text(min_size=1)))
def test_identifiers_differ(names: list[str]) -> None:
    """Names that differ have identifiers that do, of the letters that these may have."""
    found = licensed(names)
    assert sorted(found.own.values()) == sorted({n for n in names if spdx_expression(n) is None})
    for own in found.own:
        assert own.startswith("LicenseRef-")
        assert own.removeprefix("LicenseRef-").replace("-", "a").replace(".", "a").isalnum()
        assert own.isascii()
