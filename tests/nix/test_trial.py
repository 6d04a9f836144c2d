"""The build at the start, and what to do where Nix can't build."""

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from nixery.model.service_errors import NixUnavailable, StorageFull
from nixery.nix.child import Ended
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator, Prepared
from nixery.nix.lines import OnLines
from nixery.nix.trial import (
    NOTHING_BUILT,
    SANDBOX_OFF,
    SWITCHES,
    TrialBuild,
    allow_namespaces,
    builds_nothing,
    lacks_namespaces,
    too_old,
    with_remedy,
)

STORE_PATH = f"/nix/store/{'0' * 32}-"
NO_NAMESPACES = "error: setgroups failed: Operation not permitted\nerror: unable to start build"
NO_NAMESPACES += " process"
STRICT = ("--option", "sandbox-fallback", "false")


@attrs.define
class Nix:
    """Nix, as a trial sees it.

    :param says: what a build prints, by the options that it is given; nothing where it is well.
    """

    says: Callable[[Sequence[str]], str | None] = lambda options: None
    settings: dict[str, str] = attrs.Factory(lambda: {"sandbox": "true"})
    store: str | None = None
    printed_version: str = "nix (Nix) 2.8.0"
    timed_out: bool = False
    built: list[str] = attrs.Factory(list)
    deleted: list[str] = attrs.Factory(list)

    async def configuration(self) -> dict[str, str]:
        if not self.settings:
            raise NixUnavailable("there is no such command")
        return self.settings

    async def version(self) -> str:
        return self.printed_version

    async def delete(self, path: str) -> None:
        self.deleted.append(path)
        raise NixUnavailable("it is in use")

    async def prepare(self, name: str, request: dict[str, Any]) -> Prepared:
        assert name == "trial"
        self.built.append(request["name"])
        return Prepared(["--expr"], None)

    def run(self, program: str, *arguments: str, on_lines: OnLines, **others: Any) -> Deferred[Any]:
        name, said = self.built[-1], self.says(arguments)
        on_lines([f"building '{STORE_PATH}{name}.drv'...".encode()])
        on_lines([line.encode() for line in (said or "").splitlines()])
        return succeed(Ended(0 if said is None else 100, None, self.timed_out, b""))


def trial(nix: Nix) -> TrialBuild:
    switches = {"user.max_user_namespaces": "0"}
    return TrialBuild(cast(Commands, nix), cast(Evaluator, nix), lambda: switches)


@pytest_twisted.ensureDeferred
async def test_all_is_well() -> None:
    """A build that comes off is all that is needed; each trial's is of another name, and removed
    again, whether or not that can be."""
    nix = Nix()
    assert [await trial(nix).run() for _ in range(2)] == ["", ""]
    assert len(set(nix.built)) == 2  # of two starts
    assert nix.deleted == [f"{STORE_PATH}{name}.drv" for name in nix.built]


@pytest_twisted.ensureDeferred
async def test_a_trial_that_is_repeated() -> None:
    """However often a trial fails, what it may leave in the store is of one name."""
    nix = Nix(says=lambda options: NO_NAMESPACES)
    failing = trial(nix)
    for _ in range(3):
        with pytest.raises(NixUnavailable):
            await failing.run()
    assert len(nix.built) == 3
    assert len(set(nix.built)) == 1


@pytest.mark.parametrize(
    ("store", "remedy"),
    [("/state/nix", "NIX_REMOTE=local"), (None, "NIX_CONFIG='sandbox = false'")],
)
@pytest_twisted.ensureDeferred
async def test_no_sandbox(store: str | None, remedy: str) -> None:
    """Where Nix can make no sandbox, it is said what forbids it, and what to do."""
    nix = Nix(says=lambda options: NO_NAMESPACES, store=store)
    with pytest.raises(NixUnavailable) as caught:
        await trial(nix).run()
    reason = caught.value.reason
    assert "can't make its sandbox (setgroups failed: Operation not permitted;" in reason
    assert "sysctl user.max_user_namespaces=15000" in reason
    assert remedy in reason


@pytest_twisted.ensureDeferred
async def test_a_sandbox_that_is_left_out() -> None:
    """Where Nix goes on without a sandbox, which it does not say, an operator is told so."""
    nix = Nix(
        says=lambda options: NO_NAMESPACES if set(STRICT) <= set(options) else None,
        settings={"sandbox": "true", "sandbox-fallback": "true"},
    )
    remark = await trial(nix).run()
    assert remark.startswith("builds have no sandbox, since this user can't")
    assert len(nix.deleted) == 2


@pytest_twisted.ensureDeferred
async def test_a_sandbox_that_is_off() -> None:
    """Where the operator has set that there is no sandbox, none is asked for, and it is said."""
    asked: list[Sequence[str]] = []
    nix = Nix(says=lambda options: asked.append(options), settings={"sandbox": "false"})
    assert await trial(nix).run() == SANDBOX_OFF
    assert not set(STRICT) <= set(asked[0])


@pytest_twisted.ensureDeferred
async def test_builds_that_are_off() -> None:
    """Where the operator has set that nothing is built, that is no fault."""
    words = "error: unable to start any build; either increase '--max-jobs' or enable remote builds"
    assert await trial(Nix(says=lambda options: words)).run() == NOTHING_BUILT


@pytest_twisted.ensureDeferred
async def test_other_faults() -> None:
    """A full disk is told apart, and so is a Nix that takes too long."""
    nix = Nix(says=lambda options: "error: writing to file: No space left on device")
    with pytest.raises(StorageFull):
        await trial(nix).run()
    with pytest.raises(NixUnavailable, match="did not build a trivial derivation within"):
        await trial(Nix(timed_out=True)).run()


@pytest_twisted.ensureDeferred
async def test_an_old_nix() -> None:
    """A Nix that does not know what it is asked is told by its version."""
    nix = Nix(settings={}, printed_version="nix (Nix) 2.3.16")
    with pytest.raises(NixUnavailable, match=re.escape("Nix 2.3.16 is too old: install 2.8")):
        await trial(nix).run()
    with pytest.raises(NixUnavailable, match="no such command"):
        await trial(Nix(settings={})).run()


@pytest.mark.parametrize(
    ("printed", "old"),
    [
        *(("nix (Nix) 2.8.0", False), ("nix (Nix) 2.34.8", False), ("nix (Nix) 3.0", False)),
        *(("nix (Lix, like Nix) 2.91.1", False), ("what?", False), ("", False)),
        *(("nix (Nix) 2.7.9", True), ("nix (Nix) 2.3", True), ("nix (Nix) 1.11.16", True)),
        ("nix (Nix) 2.5pre20211007_844dd90", True),
    ],
)
def test_versions(printed: str, old: bool) -> None:
    """Versions are compared as numbers; what is none is not taken for old."""
    assert (too_old(printed) is not None) == old


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            "error: cloning builder process: Operation not permitted",
            "this user create namespaces",
        ),
        ("error: mounting /proc: Operation not permitted", "this user create namespaces"),
        (
            "error: this system does not support the kernel namespaces that are required for "
            "sandboxing; use '--no-sandbox' to disable sandboxing",
            "this user create namespaces",
        ),
        (
            "error: builder for '/nix/store/x.drv' failed to produce output path for output 'out'",
            "this user create namespaces",
        ),
        (
            "error: the group 'nixbld' specified in 'build-users-group' does not exist",
            "NIX_CONFIG='build-users-group ='",
        ),
        (
            "error: cannot connect to daemon at '/nix/var/nix/daemon-socket/socket': refused",
            "systemctl start nix-daemon",
        ),
        ("error: creating directory '/nix/var': Permission denied", "NIXERY_NIX_STORE"),
        ("error: something new", "Nix can't build here: something new"),
    ],
)
def test_each_has_its_remedy(text: str, remedy: str) -> None:
    """Nix's message is repeated, and followed by what to do, as far as that is known."""
    said = text.removeprefix("error: ")
    words = with_remedy(said, text, {}, own_store=False)
    assert said in words
    assert remedy in words


def test_what_the_kernel_says() -> None:
    """Those settings of the kernel are named that forbid namespaces, with values that do not."""
    closed = {name: forbids for name, (forbids, _) in SWITCHES.items()}
    opened = {name: allows for name, (_, allows) in SWITCHES.items()}
    words = allow_namespaces(closed)
    assert all(f"{name}={allows}" in words for name, allows in opened.items())
    assert "sysctl" not in allow_namespaces(opened)
    assert "docker run" in allow_namespaces({})


def test_kinds() -> None:
    """A machine without namespaces is told from an operator who wants nothing built."""
    assert builds_nothing("error: unable to start any build; either increase '--max-jobs'")
    assert not lacks_namespaces("error: unable to start any build; either increase '--max-jobs'")
    assert not builds_nothing("error: unable to start build process")
    # of newer versions of Nix
    assert builds_nothing("Unable to start any build;\nremote machines may not have all features")
