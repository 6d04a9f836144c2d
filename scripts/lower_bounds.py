#!/usr/bin/env python3
"""Prints pip constraints: the lowest version that is declared of each dependency.

It reads what the installed package says of itself, and needs `packaging`.
"""

from importlib.metadata import requires

from packaging.requirements import Requirement


def main() -> None:
    for text in requires("nixery") or []:
        requirement = Requirement(text)
        if requirement.marker is None:  # the others are for tests
            (lowest,) = (s.version for s in requirement.specifier if s.operator in (">=", "=="))
            print(f"{requirement.name}=={lowest}")


if __name__ == "__main__":
    main()
