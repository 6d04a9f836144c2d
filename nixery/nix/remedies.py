"""What to do where Nix can't build, or what it built had no sandbox: pure."""

import re
from collections.abc import Mapping

NOTHING_BUILT = (
    "nothing is built here, as Nix's max-jobs = 0 says: packages come from binary caches alone"
)
SANDBOX_OFF = (
    "what is built has no sandbox, as Nix's own settings say (sandbox = false): it can read what "
    "the daemon can; serve package sets that you trust"
)
NO_SANDBOX = (
    "what is built has no sandbox, since this machine allows this user no namespaces: it can read "
    "what the daemon can; {remedy}, or serve package sets that you trust"
)

SWITCHES: Mapping[str, tuple[str, str]] = {
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Settings of the kernel → the value that forbids namespaces, one that allows them."""

# What Nix 2.8 to 2.34 say, and the kernel's words where they pass these on.
_NAMESPACES = re.compile(
    r"setgroups failed|unable to start build process|cloning builder process|namespaces"
    r"|failed to produce output path|setting up the build environment|unsharing|mounting /"
    r"|diverted store|(?:mount|pivot_root|clone|unshare)\b.*Operation not permitted",
    re.IGNORECASE,
)
_NOTHING_TO_BUILD_WITH = re.compile(r"unable to start any build|max-jobs", re.IGNORECASE)
_USERS = re.compile(r"group '[^']*' specified in 'build-users-group' does not exist|build users")
_DAEMON = re.compile(r"cannot connect to (?:socket|daemon)|daemon-socket|not allowed to connect")
_DENIED = re.compile(r"Permission denied|Read-only file system")


def builds_nothing(text: str) -> bool:
    """Whether Nix complains that it may start no build."""
    return _NOTHING_TO_BUILD_WITH.search(text) is not None


def lacks_namespaces(text: str) -> bool:
    """Whether Nix complains, or seems to, that it can make no sandbox."""
    return _NAMESPACES.search(text) is not None


def with_remedy(said: str, text: str, switches: Mapping[str, str], own_store: bool) -> str:
    """A sentence about a build that failed, though there is nothing that could fail in it.

    :param said: the message of the error.
    :param text: all that Nix printed.
    :param switches: the values of :data:`SWITCHES`, as far as this kernel has them.
    :param own_store: whether the store is one in a folder, for which Nix needs the sandbox.
    """
    if lacks_namespaces(text):
        way = (
            ", or give it a store that needs none: /nix, owned by this user, with NIX_REMOTE=local"
            " and NIX_CONFIG='sandbox = false'"
            if own_store
            else ", or, if you trust the package set, set NIX_CONFIG='sandbox = false'"
        )
        return f"Nix can't make its sandbox ({said}): {allow_namespaces(switches)}{way}"
    if _USERS.search(text):
        return (
            f"Nix wants users to build as ({said}): make them, or set NIX_CONFIG="
            "'build-users-group =', or name a store of Nixery's own by NIXERY_NIX_STORE"
        )
    if _DAEMON.search(text):
        return (
            f"the Nix daemon can't be reached ({said}): start it (systemctl start nix-daemon), or "
            "name a store of Nixery's own by NIXERY_NIX_STORE"
        )
    if _DENIED.search(text):
        return (
            f"Nix can't write to its store ({said}): give it to the daemon's user, or name a "
            "folder of that user's by NIXERY_NIX_STORE"
        )
    return f"Nix can't build here: {said}"


def allow_namespaces(switches: Mapping[str, str]) -> str:
    """How an operator allows namespaces.

    :param switches: as above.
    """
    closed = [name for name, (forbids, _) in SWITCHES.items() if switches.get(name) == forbids]
    if closed:
        words = " ".join(f"{name}={SWITCHES[name][1]}" for name in closed)
        return f"allow this user namespaces by sysctl {words}"
    return (
        "allow this user namespaces; a container needs a seccomp profile that does, as "
        "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined gives"
    )
