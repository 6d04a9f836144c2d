"""Preparing evaluations, with programs in Nix's place that tell its settings."""

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from nixery.model.service_errors import NixUnavailable
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator, Prepared, find_expressions
from nixery.nix.isolation import Confinement
from nixery.nix.process import Processes, Surroundings

reactor: Any = _reactor
EXPRESSIONS = str(Path(__file__).resolve().parents[2] / "nix")
FOLDER = {"source": {"type": "path", "path": "/srv/set"}}
FLAKE = {"source": {"type": "flake", "reference": "x", "origins": ["github:o/r/"]}}
NIX = """#!/bin/sh
case "$*" in
    *"SETTING"*) printf "experimental-features = FEATURES\\nsandbox-paths = /bin {home}/debs\\n" ;;
    *) exit 1 ;;
esac
"""


def confinement(folder: Path) -> Confinement:
    return Confinement(
        uris=("https://example.com/",),
        hidden=(str(folder / "home"),),
        own=(str(folder / "home" / "cache"),),
        shown=(),
        programs=str(folder / "evaluating"),
        cache=str(folder / "home" / "cache"),
        fetching=Surroundings({"PATH": f"{folder / 'fetching'}:/bin"}),
        place=None,
        environ={"PATH": os.defpath},
    )


def evaluator(
    folder: Path,
    confined: Confinement | None,
    features: str = "nix-command",
    setting: str = "show-config",
) -> Evaluator:
    text = NIX.replace("FEATURES", features).replace("SETTING", setting)
    (folder / "nix").write_text(text.format(home=folder / "home"))
    (folder / "nix").chmod(0o755)
    processes = Processes(reactor, reactor, {"PATH": f"{folder}:{os.defpath}"})
    return Evaluator(processes, Commands(reactor, processes, "/chroot"), EXPRESSIONS, confined)


def options(prepared: Prepared) -> dict[str, str]:
    """The values of ``--option``."""
    words = list(prepared.arguments)
    return {words[n + 1]: words[n + 2] for n, word in enumerate(words) if word == "--option"}


def readable(prepared: Prepared) -> list[str]:
    """The values of ``-I``."""
    words = list(prepared.arguments)
    return [words[n + 1] for n, word in enumerate(words) if word == "-I"]


@pytest_twisted.ensureDeferred
async def test_a_set(tmp_path: Path) -> None:
    """A set's evaluation is restricted to the set and to what may be fetched."""
    prepared = await evaluator(tmp_path, confinement(tmp_path)).prepare("realise", FOLDER)
    told = options(prepared)
    assert (told["restrict-eval"], told["pure-eval"]) == ("true", "false")
    assert told["allow-unsafe-native-code-during-evaluation"] == "false"
    assert told["extra-allowed-uris"] == "https://example.com/"
    assert told["min-free"] == "0"
    assert told["experimental-features"] == "nix-command"
    assert readable(prepared) == ["nixery=/srv/set"]


@pytest_twisted.ensureDeferred
async def test_overlays(tmp_path: Path) -> None:
    """Overlays may be read too; and what links stand for, as Nix looks at both."""
    (tmp_path / "overlays").mkdir()
    (tmp_path / "link").symlink_to("overlays")
    told = FOLDER | {"configuration": {"overlays": str(tmp_path / "link")}}
    prepared = await evaluator(tmp_path, None).prepare("realise", told)
    names = [f"nixery={tmp_path / name}" for name in ("link", "overlays")]
    assert readable(prepared) == ["nixery=/srv/set", *names]


@pytest_twisted.ensureDeferred
async def test_a_flake(tmp_path: Path) -> None:
    """A flake's evaluation is pure, and its inputs are among what may be fetched."""
    prepared = await evaluator(tmp_path, confinement(tmp_path)).prepare("realise", FLAKE)
    told = options(prepared)
    assert (told["restrict-eval"], told["pure-eval"]) == ("true", "true")
    assert told["extra-allowed-uris"] == "https://example.com/ github:o/r/"
    assert readable(prepared) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("setting", ["show-config", "config show"])
async def test_features(tmp_path: Path, setting: str) -> None:
    """A set that is no flake has no builtins of flakes, which know no restrictions before Nix
    2.20; other features stay, whatever the command is called that names them."""
    ours = evaluator(tmp_path, confinement(tmp_path), "ca-derivations flakes fetch-tree", setting)
    assert options(await ours.prepare("index", FOLDER))["experimental-features"] == "ca-derivations"
    assert "experimental-features" not in options(await ours.prepare("index", FLAKE))


@pytest_twisted.ensureDeferred
async def test_open(tmp_path: Path) -> None:
    """An open evaluation is restricted by nothing but what the operator has set, which it is told
    how to get along with."""
    prepared = await evaluator(tmp_path, None).prepare("realise", FOLDER)
    assert options(prepared) == {"pure-eval": "false"}
    assert prepared.surroundings is None
    assert options(await evaluator(tmp_path, None).prepare("realise", FLAKE)) == {}


@pytest_twisted.ensureDeferred
async def test_the_view(tmp_path: Path) -> None:
    """Files in hidden folders that Nix's settings name are shown, since Nix needs them."""
    prepared = await evaluator(tmp_path, confinement(tmp_path)).prepare("realise", FOLDER)
    assert prepared.surroundings is not None
    home = tmp_path / "home"
    assert prepared.surroundings.mounts == [f"-{home}", f"+{home}/cache", f"+{home}/debs"]


@pytest_twisted.ensureDeferred
async def test_a_state_folder_behind_a_link(tmp_path: Path) -> None:
    """Folders that Nix writes to are shown at their real place, if settings name a link to them."""
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    link = str(tmp_path / "link" / "cache")
    confined = attrs.evolve(confinement(tmp_path), own=(link,), cache=link)
    prepared = await evaluator(tmp_path, confined).prepare("realise", FOLDER)
    assert prepared.surroundings is not None
    assert f"+{tmp_path}/home/cache" in prepared.surroundings.mounts


@pytest_twisted.ensureDeferred
async def test_a_source_that_is_hidden(tmp_path: Path) -> None:
    """A package set that lies in a hidden folder is seen, and the rest of the folder is not; one
    that is the folder is not hidden from itself."""
    ours = evaluator(tmp_path, confinement(tmp_path))
    home = tmp_path / "home"
    (home / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home")
    asked = {"source": {"type": "path", "path": str(tmp_path / "link" / "set")}}
    prepared = await ours.prepare("realise", asked)
    assert prepared.surroundings is not None
    assert f"+{home}/set" in prepared.surroundings.mounts
    assert prepared.surroundings.mounts[0] == f"-{home}"
    itself = await ours.prepare("realise", {"source": {"type": "path", "path": str(home)}})
    assert itself.surroundings == Surroundings({"PATH": os.defpath}, [])


@pytest_twisted.ensureDeferred
async def test_a_machine_without_namespaces(tmp_path: Path) -> None:
    """Where no view can be made, evaluation is confined by Nix alone."""
    confined = confinement(tmp_path)
    # What can't be hidden stands for a machine that hides nothing.
    (tmp_path / "home").mkdir()
    ours = evaluator(tmp_path, attrs.evolve(confined, environ={"PATH": "/nonexistent"}))
    await ours.start()
    assert not ours.has_view
    prepared = await ours.prepare("realise", FOLDER)
    assert prepared.surroundings == Surroundings({"PATH": "/nonexistent"})
    assert options(prepared)["restrict-eval"] == "true"


@pytest_twisted.ensureDeferred
async def test_a_nix_that_does_not_say(tmp_path: Path) -> None:
    """Without Nix's settings nothing is evaluated: they might open what is to be closed."""
    ours = evaluator(tmp_path, confinement(tmp_path), setting="nothing")
    with pytest.raises(NixUnavailable):
        await ours.prepare("realise", FOLDER)


@pytest_twisted.ensureDeferred
async def test_a_state_folder_that_takes_nothing(tmp_path: Path) -> None:
    """The daemon starts although git can't be confined; nothing is evaluated before it is."""
    (tmp_path / "file").write_text("")
    confined = attrs.evolve(confinement(tmp_path), programs=str(tmp_path / "file" / "programs"))
    ours = evaluator(tmp_path, confined)
    await ours.start()
    with pytest.raises(NixUnavailable):
        await ours.prepare("realise", FOLDER)
    (tmp_path / "file").unlink()
    await ours.prepare("realise", FOLDER)
    assert os.access(tmp_path / "file" / "programs" / "git", os.X_OK)


def test_flakes_are_fetched_by_confined_programs(tmp_path: Path) -> None:
    """No flake is fetched by git itself where the programs that stand before it could not be made
    when the daemon started; those that are there serve, though nothing can be written."""
    (tmp_path / "file").write_text("")
    fetchers = tmp_path / "file" / "fetching"
    seen = Surroundings({"PATH": f"{fetchers}:/bin"})
    confined = attrs.evolve(confinement(tmp_path), fetching=seen)
    with pytest.raises(NixUnavailable):
        confined.for_fetching()
    (tmp_path / "file").unlink()
    assert confined.for_fetching() == seen
    assert (fetchers / "git").read_text().startswith("#!/bin/sh")
    unable = attrs.evolve(confined, programs="/proc/nothing")
    assert unable.for_fetching() == seen


def test_expressions(tmp_path: Path) -> None:
    """The expressions are beside the package in a checkout, and inside where it is installed."""
    package = tmp_path / "nixery"
    package.mkdir()
    assert find_expressions(str(package)) == str(tmp_path / "nix")
    (package / "expressions").mkdir()
    assert find_expressions(str(package)) == str(package / "expressions")
