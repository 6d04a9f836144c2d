"""A build at the start that shows whether this machine can build at all, and what to do if not."""

import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress

from nixery.model.errors import NixeryError
from nixery.model.service_errors import NixUnavailable
from nixery.model.text import cut
from nixery.nix.child import Ended
from nixery.nix.commands import Commands
from nixery.nix.disk_faults import full_store
from nixery.nix.evaluation import Evaluator
from nixery.nix.lines import LastLines
from nixery.nix.messages import first_words, printable

LIMIT = 120.0
"""Seconds that Nix may take for a derivation that needs nothing."""
OLDEST = (2, 8)
"""The oldest version of Nix that is supported."""
PREFIX = "nixery-trial-"
NOTHING_BUILT = (
    "nothing is built here, since Nix's max-jobs is 0: packages come only from binary caches"
)
SANDBOX_OFF = (
    "builds have no sandbox, as Nix's settings turn it off (sandbox = false): they can read what "
    "the daemon can; serve package sets that you trust"
)
NO_SANDBOX = (
    "builds have no sandbox, since this user can't create namespaces here: they can read what the "
    "daemon can; {remedy}, or serve package sets that you trust"
)
SWITCHES: Mapping[str, tuple[str, str]] = {
    "user.max_user_namespaces": ("0", "15000"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
}
"""Settings of the kernel → the value that forbids namespaces, and one that allows them."""
_STRICT = ("--option", "sandbox-fallback", "false")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# Messages of Nix 2.8 to 2.34, and of the kernel where Nix passes these on.
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


def read_switches() -> dict[str, str]:
    """The current values of :data:`SWITCHES`, as far as this kernel has them."""
    found = {}
    for name in SWITCHES:
        with suppress(OSError), open(f"/proc/sys/{name.replace('.', '/')}") as file:
            found[name] = file.read().strip()
    return found


def too_old(printed: str) -> str | None:
    """A message if a version of Nix is too old.

    :param printed: by ``nix --version``.
    """
    match = re.search(r"(\d+)\.(\d+)\S*", printed)
    if match is None or (int(match[1]), int(match[2])) >= OLDEST:
        return None
    needed = ".".join(map(str, OLDEST))
    return f"Nix {match[0]} is too old: install {needed} or later"


def builds_nothing(text: str) -> bool:
    """Whether Nix complains that it may start no build."""
    return _NOTHING_TO_BUILD_WITH.search(text) is not None


def lacks_namespaces(text: str) -> bool:
    """Whether Nix complains, or seems to, that it can make no sandbox."""
    return _NAMESPACES.search(text) is not None


def with_remedy(said: str, text: str, switches: Mapping[str, str], own_store: bool) -> str:
    """A message about a failed build of a derivation that can't fail, with what to do. Pure.

    :param said: the message of the error.
    :param text: all that Nix printed.
    :param switches: as :func:`read_switches` gives them.
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
            f"Nix wants build users ({said}): create them, or set NIX_CONFIG='build-users-group ='"
            ", or give Nixery a store of its own by NIXERY_NIX_STORE"
        )
    if _DAEMON.search(text):
        return (
            f"the Nix daemon can't be reached ({said}): start it (systemctl start nix-daemon), or "
            "give Nixery a store of its own by NIXERY_NIX_STORE"
        )
    if _DENIED.search(text):
        return (
            f"Nix can't write to its store ({said}): make it writable for the daemon's user, or "
            "name a folder that is by NIXERY_NIX_STORE"
        )
    return f"Nix can't build here: {said}"


def allow_namespaces(switches: Mapping[str, str]) -> str:
    """How an operator allows namespaces.

    :param switches: as :func:`read_switches` gives them.
    """
    closed = [name for name, (forbids, _) in SWITCHES.items() if switches.get(name) == forbids]
    if closed:
        words = " ".join(f"{name}={SWITCHES[name][1]}" for name in closed)
        return f"let this user create namespaces by sysctl {words}"
    return (
        "let this user create namespaces; a container needs a seccomp profile that does, as "
        "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined gives"
    )


class TrialBuild:
    """Has Nix build a derivation that needs nothing, in the way that packages are built."""

    def __init__(
        self,
        commands: Commands,
        evaluator: Evaluator,
        switches: Callable[[], Mapping[str, str]] = read_switches,
    ) -> None:
        self._commands = commands
        self._evaluator = evaluator
        self._switches = switches
        # Nothing of that name was ever built. A failed build is not remembered, but leaves an
        # empty file of its name: one in all, however often the trial is repeated.
        self._name = f"{PREFIX}{uuid.uuid4().hex}"

    async def run(self) -> str:
        """Build it.

        :return: a remark for the operator about a build that succeeded; mostly empty.
        :raises NixUnavailable: if it can't be built, with what to do.
        :raises StorageFull: if there is no room for it.
        """
        settings = await self._settings()
        own_store = self._commands.store is not None
        isolated = own_store or settings.get("sandbox") != "false"
        falls_back = not own_store and settings.get("sandbox-fallback") == "true"
        # Where Nix may, it goes on without a sandbox, and does not say so.
        text = await self._build(_STRICT if isolated else ())
        if text is None:
            return "" if isolated else SANDBOX_OFF
        if builds_nothing(text):
            return NOTHING_BUILT
        if lacks_namespaces(text) and falls_back and await self._build() is None:
            return NO_SANDBOX.format(remedy=allow_namespaces(self._switches()))
        raise full_store(text) or NixUnavailable(
            with_remedy(_words(text), text, self._switches(), own_store)
        )

    async def _settings(self) -> Mapping[str, str]:
        """Nix's settings.

        :raises NixUnavailable: if it does not tell them, as one that is too old.
        """
        try:
            return await self._commands.configuration()
        except NixUnavailable:
            if (old := too_old(await self._commands.version())) is not None:
                raise NixUnavailable(old) from None
            raise

    async def _build(self, options: tuple[str, ...] = ()) -> str | None:
        """Build the derivation, and remove it.

        :return: what Nix printed, if it failed.
        """
        errors = LastLines()
        try:
            ended = await self._run(options, errors)
        finally:
            text = _COLOURS.sub("", errors.text())
            await self._clean(re.findall(rf"/nix/store/[0-9a-z]{{32}}-{self._name}\.drv", text))
        if ended.timed_out:
            raise NixUnavailable(f"Nix did not build a trivial derivation within {LIMIT:g} s")
        return None if ended.code == 0 else text

    async def _run(self, options: tuple[str, ...], errors: LastLines) -> Ended:
        request = {"source": {"type": "none"}, "name": self._name}
        prepared = await self._evaluator.prepare("trial", request)
        return await self._commands.run(
            "nix-build",
            "--no-out-link",
            *options,
            *prepared.arguments,
            on_lines=errors.take,
            limit=LIMIT,
            surroundings=prepared.surroundings,
        )

    async def _clean(self, derivations: list[str]) -> None:
        """Remove it from the store; where that fails, a few hundred bytes stay until the next
        garbage collection."""
        for path in dict.fromkeys(derivations):
            with suppress(NixeryError):
                await self._commands.delete(path)


def _words(text: str) -> str:
    """Nix's errors in one line."""
    said = [first_words(line) for line in text.splitlines() if line.startswith("error:")]
    return cut(printable("; ".join(filter(None, said))), 500) or "Nix gave no reason"
