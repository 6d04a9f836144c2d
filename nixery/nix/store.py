"""Which Nix store there is to work with."""

import os
from collections.abc import Mapping


def find_store(
    own: str | None, state: str, environ: Mapping[str, str], machine: str = "/nix"
) -> str | None:
    """Choose the store.

    :param own: a folder that the operator named.
    :param state: the state folder.
    :param machine: where the machine's store and its daemon's socket would be.
    :return: a folder for ``nix --store``, or nothing for the machine's store: taken if there is
        one that this process may write to, or whose daemon does it.
    """
    if own is not None:
        return own
    daemon = os.path.join(machine, "var/nix/daemon-socket/socket")
    usable = os.path.exists(daemon) or os.access(os.path.join(machine, "store"), os.W_OK)
    return None if usable or environ.get("NIX_REMOTE") else os.path.join(state, "nix")


def find_expressions(package: str) -> str:
    """The folder of the Nix expressions: inside an installed package, beside it in a checkout.

    :param package: the folder of the package ``nixery``.
    """
    inside = os.path.join(package, "expressions")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "nix")
