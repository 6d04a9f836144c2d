"""Making the package set: what is kept of an earlier time, and what is made anew."""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import generate
import pytest
from programs import SetupError

RECIPE = generate.recipe(platform.freedesktop_os_release())


def lock(folder: Path, **more: Any) -> Path:
    """Write a set of one package, as it would be made now."""
    (folder / "pkgs").mkdir()
    (folder / "debs").mkdir()
    deb = folder / "debs" / "tool.deb"
    deb.write_bytes(b"a tool")
    named = {"file": deb.name, "sha256": hashlib.sha256(b"a tool").hexdigest(), "only": ""}
    contents = {"packages": {"tool": {"debs": [named]}}, "made-from": RECIPE, **more}
    (folder / "pkgs" / "packages-amd64.json").write_text(json.dumps(contents))
    return deb


def test_a_whole_set_is_kept(tmp_path: Path) -> None:
    """Nothing is made where everything is as it should be."""
    deb = lock(tmp_path)
    assert generate.is_whole(tmp_path, "amd64")
    assert not generate.is_whole(tmp_path, "arm64")
    assert deb.exists()


@pytest.mark.parametrize("contents", [b"a to", b"A TOOL", b""])
def test_a_damaged_package_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], contents: bytes
) -> None:
    """A package that was cut or altered since is named, and goes before it is downloaded again."""
    deb = lock(tmp_path)
    deb.write_bytes(contents)
    assert not generate.is_whole(tmp_path, "amd64")
    assert not deb.exists()
    assert "tool.deb is damaged" in capsys.readouterr().err


def test_a_lost_package_is_made_anew(tmp_path: Path) -> None:
    """A set whose package is gone is not whole."""
    lock(tmp_path).unlink()
    assert not generate.is_whole(tmp_path, "amd64")


def test_a_set_of_another_release_is_made_anew(tmp_path: Path) -> None:
    """What was made from other rules, or on another release of the system, is not kept."""
    lock(tmp_path, **{"made-from": "something else"})
    assert not generate.is_whole(tmp_path, "amd64")


def test_the_release_is_part_of_the_recipe() -> None:
    """An upgraded machine makes its set from the new release."""
    releases = ({"ID": "debian", "VERSION_CODENAME": "a"}, {"ID": "debian"})
    assert len({generate.recipe(release) for release in releases}) == 2


def test_an_architecture_that_is_absent_stays_so(tmp_path: Path) -> None:
    """It is not looked for at every start."""
    (tmp_path / "pkgs").mkdir()
    absent = {"absent": "there is none", "made-from": RECIPE}
    (tmp_path / "pkgs" / "packages-arm64.json").write_text(json.dumps(absent))
    assert generate.is_whole(tmp_path, "arm64")


@pytest.mark.parametrize("name", ["my state", "a=b", "what?", "50%"])
def test_a_folder_that_nix_can_not_be_told_of(tmp_path: Path, name: str) -> None:
    """It is named, with the setting for another one, before anything is made there."""
    with pytest.raises(SetupError, match="STATE_DIRECTORY"):
        generate.generate(tmp_path / name, ["amd64"], refresh=False)
    assert list(tmp_path.iterdir()) == []
