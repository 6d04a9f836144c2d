"""Whether the libraries that Nixery needs are there, in versions that it runs with."""

from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement

NAME = "nixery"


def version() -> str:
    """The version of this Nixery."""
    return metadata.version(NAME)


def faults(
    required: Iterable[str] | None = None, version_of: Callable[[str], str] = metadata.version
) -> list[str]:
    """A sentence for each library that is missing, or of a version that won't do.

    :param required: as packages name what they need; none for what this one does.
    :param version_of: tells the version of a library; raises ``PackageNotFoundError``.
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
                    f"the library {requirement.name} is of version {there}, and {needed} is "
                    f"needed; pip install '{needed}'"
                )
    return found
