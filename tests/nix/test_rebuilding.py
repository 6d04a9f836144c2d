"""Derivations that are built again, by a Nix that is told what comes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred

from nixery.nix.child import Ended
from nixery.nix.rebuilding import Rebuilder
from tests.waiting import until

reactor: Any = _reactor
STORE = "/nix/store/00000000000000000000000000000000"
DRV, OUT, DEV = f"{STORE}-git.drv", f"{STORE}-git", f"{STORE}-git-dev"
HEAD = f'Derive([("dev","{DEV}","",""),("out","{OUT}","{{0}}","")],[],[],"x86_64-linux")'


@attrs.define
class CheckingCommands:
    """Nix's commands: ``nix-store --check`` ends as it is told to.

    :ivar copy: what the output is that it leaves beside the one in the store, if it does.
    """

    store: str
    invalid: tuple[str, ...] = ()
    code: int = 0
    errors: str = ""
    copy: str | None = None
    gate: Deferred[None] | None = None
    ran: list[tuple[str, ...]] = attrs.Factory(list)
    removed: list[str] = attrs.Factory(list)

    async def valid(self, paths: Sequence[str]) -> list[str]:
        return [path for path in paths if path not in self.invalid]

    async def run(self, *command: str, **options: Any) -> Ended:
        self.ran.append(command)
        if self.copy is not None:
            Path(f"{self.store}{OUT}.check").write_text(self.copy)
        if self.gate is not None:
            await self.gate
        return Ended(self.code, None, False, b"", errors=self.errors)

    async def remove(self, *paths: str) -> None:
        self.removed += paths
        for path in paths:
            Path(self.store + path).unlink()


@pytest.fixture
def commands(tmp_path: Path) -> CheckingCommands:
    (tmp_path / "nix" / "store").mkdir(parents=True)
    (tmp_path / DRV[1:]).write_text(HEAD.format(""))
    (tmp_path / OUT[1:]).write_text("one")
    return CheckingCommands(str(tmp_path))


def rebuilder(commands: Any) -> Rebuilder:
    return Rebuilder(reactor, commands, 600)


@pytest_twisted.ensureDeferred
async def test_the_same(commands: CheckingCommands) -> None:
    """Only outputs that are in the store are compared: Nix would check none of them otherwise."""
    commands.invalid = (DEV,)
    found = await rebuilder(commands).rebuild(DRV)
    assert found.outcome == "same"
    (ran,) = commands.ran
    assert ran[-2:] == ("--", f"{DRV}!out")


@pytest_twisted.ensureDeferred
async def test_a_difference(commands: CheckingCommands) -> None:
    """The first difference is told, and the output that differs is removed."""
    commands.code, commands.copy = 104, "two"
    found = await rebuilder(commands).rebuild(DRV)
    assert (found.outcome, found.derivation) == ("differs", DRV)
    assert "'one', and now 'two'" in found.detail
    assert commands.removed == [f"{OUT}.check"]


@pytest_twisted.ensureDeferred
async def test_a_difference_whose_output_is_not_kept(commands: CheckingCommands) -> None:
    """A Nix daemon that takes no such option of its clients tells a difference all the same."""
    commands.code = 104
    assert (await rebuilder(commands).rebuild(DRV)).outcome == "differs"


@pytest_twisted.ensureDeferred
async def test_a_failure(commands: CheckingCommands) -> None:
    """A builder that fails is no difference; Nix's reason is told in a line."""
    commands.code = 100
    commands.errors = (
        f"checking outputs of '{DRV}'...\nerror: builder for '{DRV}' failed:\n  code 3"
    )
    found = await rebuilder(commands).rebuild(DRV)
    assert found.outcome == "failed"
    assert found.detail.startswith("builder for")
    assert "\n" not in found.detail


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("lacking", ["derivation", "outputs", "choice"])
async def test_what_is_not_built_again(commands: CheckingCommands, lacking: str) -> None:
    """What can't be compared, or would only be downloaded again, is passed over with the reason."""
    if lacking == "derivation":
        Path(commands.store + DRV).unlink()
    elif lacking == "outputs":
        commands.invalid = (OUT, DEV)
    else:
        Path(commands.store + DRV).write_text(HEAD.format("sha256"))
    found = await rebuilder(commands).rebuild(DRV)
    assert found.outcome == "skipped"
    assert found.detail
    assert commands.ran == []


@pytest_twisted.ensureDeferred
async def test_cancelled(commands: CheckingCommands) -> None:
    """Who gives up leaves no output behind that differs."""
    commands.copy, commands.gate = "two", Deferred()
    rebuilding = Deferred.fromCoroutine(rebuilder(commands).rebuild(DRV))
    await until(lambda: bool(commands.ran))
    rebuilding.cancel()
    with pytest.raises(CancelledError):
        await rebuilding
    assert commands.removed == [f"{OUT}.check"]
    assert not Path(f"{commands.store}{OUT}.check").exists()
