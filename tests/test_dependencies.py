"""The declared dependencies are what the code imports."""

import tomllib
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_imports import imports

TOP = Path(__file__).resolve().parents[1]
SHIPPED = sorted([*TOP.glob("nixery/**/*.py"), *TOP.glob("twisted/**/*.py")])
FOR_TESTS = sorted([*TOP.glob("tests/**/*.py"), *TOP.glob("benchmarks/*.py")])


@cache
def declared() -> tuple[list[Requirement], list[Requirement]]:
    """What pyproject.toml declares to run Nixery, and to test it."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    to_run, to_test = project["dependencies"], project["optional-dependencies"]["test"]
    return [Requirement(text) for text in to_run], [Requirement(text) for text in to_test]


@cache
def owners() -> dict[str, str]:
    """The distribution that each installed Python file belongs to."""
    return {
        str(file): canonicalize_name(each.metadata["Name"])
        for each in distributions()
        for file in each.files or []
        if file.suffix == ".py"
    }


def owner(name: str) -> str | None:
    """The distribution that a module, or a name in one, comes from, if it is none of Python's."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        path = "/".join(parts[:count])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in owners():
                return owners()[file]
    return None


@pytest.mark.parametrize("files", [SHIPPED, FOR_TESTS], ids=["shipped", "tests"])
def test_what_is_imported_is_declared(files: list[Path]) -> None:
    """Every distribution that the code imports from directly is declared by its own name."""
    to_run, to_test = declared()
    asked = to_run if files is SHIPPED else to_run + to_test
    known = {canonicalize_name(requirement.name) for requirement in asked} | {"nixery"}
    found = {(owner(name), str(path)) for path in files for name in imports(path)}
    assert {pair for pair in found if pair[0] is not None and pair[0] not in known} == set()
    imported = {name for name, _ in found}
    assert {"twisted", "google-auth", "pyopenssl"} <= imported or files is FOR_TESTS


def test_every_dependency_has_a_lower_bound() -> None:
    """Each has a lowest version that works: ``make test-oldest`` runs with these."""
    for requirement in declared()[0]:
        operators = sorted(each.operator for each in requirement.specifier)
        assert operators in (["=="], [">="], ["<", ">="]), requirement
