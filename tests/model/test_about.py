"""What a package set says of a package for people to read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.licenses import canonicalize_license_expression

from nixery.model.about import About, License, licenses_together

MIT, GPL = License("MIT", "mit"), License("GPL-2.0-or-later", "gpl2Plus")


@pytest.mark.parametrize(
    ("licenses", "expression"),
    [
        ([], ""),
        ([MIT, MIT], "MIT"),
        ([GPL, MIT], "GPL-2.0-or-later AND MIT"),
        ([License("MIT OR Apache-2.0", "")], "MIT OR Apache-2.0"),
        ([License("MIT OR Apache-2.0", ""), GPL], "(MIT OR Apache-2.0) AND GPL-2.0-or-later"),
        (
            [License("GPL-2.0-only WITH Classpath-exception-2.0", "")] * 2,
            "GPL-2.0-only WITH Classpath-exception-2.0",
        ),
        ([License("", "unfree")], "LicenseRef-unfree"),
        ([License("", "Our own, see LICENCE")], "LicenseRef-Our-own-see-LICENCE"),
        ([License("not SPDX)", "x")], "LicenseRef-x"),
        ([License("", ""), License("", "«»")], ""),
    ],
)
def test_expressions(licenses: list[License], expression: str) -> None:
    """Licences are an SPDX expression; those that SPDX does not know are references."""
    assert licenses_together([About(licenses=tuple(licenses))]) == expression


def test_several_packages() -> None:
    """The licences of all packages hold, in an order that does not depend on theirs."""
    packages = [About(licenses=(MIT,)), About(), About(licenses=(GPL, MIT))]
    expected = "GPL-2.0-or-later AND MIT"
    assert licenses_together(packages) == licenses_together(packages[::-1]) == expected


@given(st.lists(st.builds(License, st.sampled_from(["", "MIT", "0BSD OR MIT", "?"]), st.text())))
def test_what_is_said_is_an_expression(licenses: list[License]) -> None:
    """Whatever a set calls a licence, the whole is an SPDX expression or nothing."""
    expression = licenses_together([About(licenses=tuple(licenses))])
    if expression:
        assert canonicalize_license_expression(expression)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('a "package"\n  of two lines\n', 'a "package" of two lines'),
        ("\x1b[31mred\x1b[0m\a \u202eback", "red back"),
        ("größer\tthan", "größer than"),
    ],
)
def test_texts_are_lines(said: str, shown: str) -> None:
    """A text is one line, which terminals can be shown."""
    texts = dict.fromkeys(("version", "description", "homepage", "cpe"), said)
    document = {**texts, "licenses": [], "purls": [said]}
    assert About.parse(document) == About(shown, shown, shown, (), shown, (shown,))


def test_no_label_is_without_end() -> None:
    """More licences than anybody can read are none."""
    licenses = tuple(License("", f"{'x' * 90}{number}") for number in range(100))
    assert licenses_together([About(licenses=licenses)]) == ""
