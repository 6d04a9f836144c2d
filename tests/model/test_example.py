"""An image to name as an example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.example import WANTED, example
from nixery.model.image import SHELL


@pytest.mark.parametrize(
    ("there", "name"),
    [
        (WANTED, "shell/git/htop"),
        ((*SHELL, "jq"), "shell/jq"),
        (("hello", "curl", "nano"), "curl/hello"),
        (SHELL, "shell"),
        (("nano", "firefox"), None),
        ((), None),
    ],
)
def test_examples(there: tuple[str, ...], name: str | None) -> None:
    """An example is made of packages that the set has; of none if it has none that serve."""
    assert example(there) == name


@given(st.sets(st.sampled_from(WANTED)))
def test_nothing_but_what_is_there(there: set[str]) -> None:
    """Whatever a set has, nothing else is named."""
    steps = (example(there) or "").split("/")
    named = {name for step in steps if step for name in (SHELL if step == "shell" else [step])}
    assert named <= there
