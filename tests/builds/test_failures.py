"""Failures: which are remembered, and what clients and histories are told of them."""

import gc
import weakref
from pathlib import Path

import pytest
import pytest_twisted

from nixery.builds.failures import Failures, Hints
from nixery.model.build_errors import BuildFailed
from nixery.model.image import parse_image
from nixery.model.package_errors import NotAPackage, UnknownPackage
from nixery.model.service_errors import NixUnavailable
from nixery.model.suggestions import Suggestion
from tests.builds.fakes import Parts, make_parts


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


async def ready(tmp_path: Path, hints: bool = True) -> Parts:
    """A builder for which ``rg`` is unknown, and like ``rig``."""
    parts = make_parts(str(tmp_path), hints=hints)
    await parts.history.start()
    parts.nix.error = UnknownPackage("rg", ["rig"])
    return parts


async def refusal(parts: Parts) -> str:
    with pytest.raises(UnknownPackage) as caught:
        await parts.builder.manifest(parse_image("rg", "latest"))
    return str(caught.value)


@pytest_twisted.ensureDeferred
async def test_hints_are_those_of_the_moment(tmp_path: Path) -> None:
    """A failure that is remembered is told with what is known now, and Nix is not asked again."""
    parts = await ready(tmp_path)
    assert "mean rig?" in await refusal(parts)
    parts.meant["rg"] = [Suggestion("ripgrep", "rg")]
    assert "mean ripgrep (it has the program rg)?" in await refusal(parts)
    parts.meant["rg"] = [Suggestion("ripgrep-all", "rg")]
    assert "mean ripgrep-all (it has the program rg)?" in await refusal(parts)
    parts.meant.clear()
    assert "mean rig?" in await refusal(parts)
    assert len(parts.nix.asked) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("hints", [True, False])
async def test_hints_of_builds(tmp_path: Path, hints: bool) -> None:
    """A build's history has the hints of its refusal, unless names are not for everybody."""
    parts = await ready(tmp_path, hints)
    parts.meant["rg"] = [Suggestion("ripgrep", "rg")]
    assert "ripgrep" in await refusal(parts)
    (head,) = list(parts.history.heads())
    assert ("ripgrep" in (head.error or "")) == hints
    await parts.history.stop()


@pytest.mark.parametrize("for_all", [True, False])
def test_errors_that_are_recorded(for_all: bool) -> None:
    """Names of packages that nobody has asked for are left out where they are not for everybody;
    the error that is told is as it was."""
    unknown = UnknownPackage("rg", ["rig"], meant=[Suggestion("ripgrep", "rg")])
    kind = NotAPackage("x", "a set of other things", ["x.y"])
    other = NixUnavailable("it is away")
    recorded = [Hints(for_all=for_all).recorded(error) for error in (unknown, kind, other)]
    nothing = [UnknownPackage("rg"), NotAPackage("x", "a set of other things"), other]
    assert [*map(str, recorded)] == [*map(str, [unknown, kind, other] if for_all else nothing)]
    assert "ripgrep" in str(unknown)
    assert "x.y" in str(kind)
