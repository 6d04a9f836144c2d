"""The installed version of Nixery, and of the libraries that it needs."""

from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement

NAME = "nixery"


def version() -> str:
    """The version of this Nixery, from the metadata that pyproject.toml is installed as."""
    return metadata.version(NAME)


def faults(
    required: Iterable[str] | None = None, version_of: Callable[[str], str] = metadata.version
) -> list[str]:
    """A sentence for each library that is missing or has a version that is not supported.

    :param required: requirements as in package metadata; by default those of Nixery itself.
    :param version_of: returns the version of a library; raises ``PackageNotFoundError``.
    """
    found: list[str] = []
    for text in metadata.requires(NAME) or () if required is None else required:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        needed = f"{requirement.name}{requirement.specifier}"
        try:
            there = version_of(requirement.name)
        except metadata.PackageNotFoundError:
            found.append(f"the library {requirement.name} is missing; pip install '{needed}'")
        else:
            if not requirement.specifier.contains(there, prereleases=True):
                found.append(
                    f"the library {requirement.name} has version {there}, but {needed} is "
                    f"required; pip install '{needed}'"
                )
    return found
