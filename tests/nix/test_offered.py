"""A look at the package set."""

from collections.abc import Sequence
from typing import Any, cast

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from nixery.model.package_errors import EvaluationFailed
from nixery.model.service_errors import NixUnavailable
from nixery.model.source import Channel, Commit, FolderContents, LocalFolder, PinnedSource
from nixery.nix.child import Ended
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator, Prepared
from nixery.nix.offered import Offered
from nixery.nix.sources import Sources

FOLDER = PinnedSource(LocalFolder("/srv/secret/set"), FolderContents("/srv/secret/set", "1"))


@attrs.define
class Nix:
    """Nix and the sources, as far as they are asked.

    :param printed: on standard output.
    :param errors: lines of standard error.
    :param breaks: the package that ends the evaluation.
    """

    printed: bytes = b"[]"
    errors: Sequence[str] = ()
    code: int = 0
    timed_out: bool = False
    breaks: str = ""
    asked: list[dict[str, Any]] = attrs.Factory(list)

    async def request(self, pinned: PinnedSource) -> dict[str, Any]:
        return {"type": "path", "path": "/srv/secret/set"}

    async def prepare(self, name: str, request: dict[str, Any]) -> Prepared:
        assert name == "offered"
        self.asked.append(request)
        return Prepared(["--expr"], None)

    def run(self, program: str, *arguments: str, **others: Any) -> Deferred[Any]:
        if self.breaks in self.asked[-1]["names"]:
            return succeed(Ended(1, None, False, b""))
        errors = "\n".join(self.errors)
        return succeed(Ended(self.code, None, self.timed_out, self.printed, errors=errors))

    def look(self) -> Offered:
        return Offered(cast(Commands, self), cast(Evaluator, self), cast(Sources, self))


@pytest_twisted.ensureDeferred
async def test_what_is_there() -> None:
    """The set is asked for the names, as data."""
    nix = Nix(printed=b'["git"]')
    assert await nix.look().among(FOLDER, ["git", "x"]) == ["git"]
    assert nix.asked[0]["names"] == ["git", "x"]


@pytest_twisted.ensureDeferred
async def test_nixpkgs_is_not_fetched() -> None:
    """Of nixpkgs it is known what it has: nothing is evaluated, or fetched, for that."""
    nix = Nix()
    pinned = PinnedSource(Channel("nixos-unstable"), Commit("https://h/x", "0" * 40))
    assert await nix.look().among(pinned, ["git"]) == ["git"]
    assert nix.asked == []


@pytest_twisted.ensureDeferred
async def test_a_package_that_is_broken() -> None:
    """A package that ends the evaluation of all has none named; the set can be used without it."""
    nix = Nix(breaks="git")
    assert await nix.look().among(FOLDER, ["git", "x"]) == []
    assert await nix.look().among(FOLDER, ["x"]) == []
    assert [each["names"] for each in nix.asked] == [["git", "x"], [], ["x"]]


@pytest_twisted.ensureDeferred
async def test_a_set_that_is_broken() -> None:
    """A fault of a set is told in Nix's words, without the place of the set."""
    nix = Nix(
        errors=["error: syntax error, unexpected end of file", "at /srv/secret/set:1"], code=1
    )
    with pytest.raises(EvaluationFailed, match="syntax error") as caught:
        await nix.look().among(FOLDER, ["git"])
    assert "secret" not in str(caught.value)
    with pytest.raises(EvaluationFailed, match="did not finish"):
        await Nix(timed_out=True).look().among(FOLDER, ["git"])
    with pytest.raises(NixUnavailable):
        await Nix(printed=b"").look().among(FOLDER, ["git"])
