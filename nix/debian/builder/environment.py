"""Builds an interpreter that finds some libraries, inside Nix's sandbox: all that the interpreter's
package has, with its programs told by an environment variable where the libraries are."""

import json
import os
from collections.abc import Iterable, Iterator

PROPAGATED = "nix-support/propagated-user-env-packages"


def with_dependencies(packages: Iterable[str]) -> Iterator[str]:
    """Packages and all that they depend on, each once."""
    seen: set[str] = set()
    todo = list(packages)[::-1]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        needed = os.path.join(path, PROPAGATED)
        if os.path.exists(needed):
            with open(needed) as file:
                todo += file.read().split()[::-1]


def link_all(base: str, out: str) -> None:
    """Link to all that a package has; its programs one by one."""
    os.makedirs(f"{out}/bin")
    for folder in (name for name in os.listdir(base) if name != "bin"):
        os.symlink(f"{base}/{folder}", f"{out}/{folder}")
    for program in os.listdir(f"{base}/bin"):
        os.symlink(f"{base}/bin/{program}", f"{out}/bin/{program}")


def tell(out: str, base: str, program: str, bash: str, variable: str, places: list[str]) -> None:
    """Put a script in the place of a program. What the user sets comes first."""
    value = f'"${{{variable}:+${variable}:}}{":".join(places)}"'
    path = f"{out}/bin/{program}"
    os.unlink(path)
    with open(path, "w") as file:
        file.write(
            f'#!{bash}/bin/bash\nexport {variable}={value}\nexec {base}/bin/{program} "$@"\n'
        )
    os.chmod(path, 0o755)


def main() -> None:
    environment = os.environ
    out, base = environment["out"], environment["interpreter"]
    told = json.loads(environment["told"])
    link_all(base, out)
    candidates = [
        os.path.join(package, folder)
        for package in with_dependencies(environment["libraries"].split())
        for folder in told["folders"]
    ]
    places = [place for place in candidates if os.path.isdir(place)]
    for program in told["programs"]:
        tell(out, base, program, environment["bash"], told["variable"], places)


if __name__ == "__main__":
    main()
