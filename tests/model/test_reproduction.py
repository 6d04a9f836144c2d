"""The results of making images again."""

import json
from typing import Any

import attrs
import pytest

from nixery.model.reproduction import (
    Outcome,
    RebuiltDerivation,
    RepackedLayer,
    Reproduction,
    predicate_of,
)

DRV = "/nix/store/00000000000000000000000000000000-git.drv"
SAME = Reproduction(
    *("git", "latest", "sha256:aa", "sha256:aa", "nixpkgs", "1" * 40, False, "", 1.0, 2.0),
    derivations=(RebuiltDerivation(DRV, "same"), RebuiltDerivation(f"{DRV}2", "skipped", "fixed")),
    layers=(RepackedLayer("sha256:bb", "sha256:bb", ("/nix/store/x",)),),
)
DIFFERENT = RebuiltDerivation(DRV, "differs", "bin/git differs")


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "same"),
        ({"again": ""}, "same"),
        ({"again": "sha256:ab"}, "differs"),
        ({"derivations": (DIFFERENT,)}, "differs"),
        ({"derivations": (RebuiltDerivation(DRV, "failed"), DIFFERENT)}, "differs"),
        ({"derivations": (RebuiltDerivation(DRV, "failed"),)}, "failed"),
        ({"layers": (RepackedLayer("sha256:bb", "sha256:bc"),)}, "differs"),
        ({"layers": (RepackedLayer("sha256:bb", ""),)}, "failed"),
    ],
)
def test_the_worst_counts(changes: dict[str, Any], outcome: Outcome) -> None:
    """A difference of anything is one of the image; what could not be made is no success."""
    assert attrs.evolve(SAME, **changes).outcome == outcome


def test_a_predicate() -> None:
    """An attestation names every derivation and layer once, in the list of its result."""
    made = attrs.evolve(SAME, again="sha256:ab", derivations=(*SAME.derivations, DIFFERENT))
    predicate = json.loads(json.dumps(predicate_of(made)))
    assert predicate["result"] == "FAILED"
    assert predicate["passedTests"] == [f"rebuild {DRV}", "repack sha256:bb"]
    assert predicate["warnedTests"] == [f"rebuild {DRV}2"]
    assert predicate["failedTests"] == [f"rebuild {DRV}", "manifest sha256:aa"]
    assert predicate_of(SAME)["result"] == "PASSED"


def test_the_source() -> None:
    """An attestation goes wherever the image goes: it names the source as the image does, if it
    does, and not as operators know it."""
    for address in ("", "https://example.com/set"):
        (configuration,) = predicate_of(attrs.evolve(SAME, address=address))["configuration"]
        assert configuration["annotations"].get("source", "") == address


def test_a_document() -> None:
    """A document says the outcome of the whole, and of each layer."""
    document = json.loads(json.dumps(SAME.document()))
    assert document["outcome"] == document["layers"][0]["outcome"] == "same"
    assert document["layers"][0]["paths"] == ["/nix/store/x"]
    assert document["derivations"][1]["detail"] == "fixed"
