"""Failures that are remembered."""

import gc
import weakref

import pytest

from nixery.builds.failures import Failures
from nixery.model.errors import BuildFailed


class Names:
    """What took much memory."""


def test_nothing_but_the_facts_is_kept() -> None:
    """What failed is remembered without all that was at hand when it did."""
    failures = Failures(lambda: 0.0, 60)

    def fail() -> "weakref.ref[Names]":
        names = Names()
        try:
            raise BuildFailed("x-1.0", "it failed", [])
        except BuildFailed as error:
            failures.note("key", error, "build")
        return weakref.ref(names)

    kept = fail()
    gc.collect()
    assert kept() is None


def test_each_has_an_error_of_its_own() -> None:
    """A remembered error does not grow with those who are refused by it."""
    failures = Failures(lambda: 0.0, 60)
    failures.note("key", BuildFailed("x-1.0", "it failed", ["a line"]), "build")
    for _ in range(2):
        failure = failures.get("key")
        assert failure is not None
        assert str(failure.error) == str(BuildFailed("x-1.0", "it failed", ["a line"]))
        assert failure.error.__traceback__ is None
        with pytest.raises(BuildFailed):
            raise failure.error
