"""SBOMs as CycloneDX documents, checked by the CycloneDX project's own library."""

import json
from typing import Any

import attrs
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import HealthCheck, given, settings

from nixery.attest.cyclonedx import cyclonedx_document
from nixery.model.contents import Contents
from tests.attest.samples import GIT, LAYER, LIBC, MAN, SUBJECT, USUAL, any_contents, many

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_5)


def validated(contents: Contents) -> Any:
    """The document about an image, validated."""
    content = cyclonedx_document(contents, SUBJECT).content.decode("ascii")
    assert VALIDATOR.validate_str(content) is None
    return json.loads(content)


def test_the_validator_refuses_others() -> None:
    """The validator finds what is wrong."""
    made = validated(USUAL)
    made["components"][0]["externalReferences"] = [{"type": "website", "url": "x y"}]
    assert VALIDATOR.validate_str(json.dumps(made)) is not None


def test_usual_document() -> None:
    """A document has a component for each store path, with what is known of it."""
    made = validated(USUAL)
    assert made["metadata"]["component"]["version"] == str(SUBJECT.digest)
    git, libc, man = made["components"]
    assert [(each["bom-ref"], each["name"], each["version"]) for each in (git, libc, man)] == [
        (GIT, "git", "2.42.0"),
        (LIBC, "glibc", "2.38-44"),
        (MAN, "git", "2.42.0"),
    ]
    assert git["licenses"] == [
        {"license": {"name": "GPL-2.0-only"}},
        {"license": {"name": "own licence"}},
    ]
    assert git["externalReferences"] == [{"type": "website", "url": "https://git-scm.com/"}]
    (deb,) = git["components"]
    assert (deb["name"], deb["version"], deb["purl"]) == (
        "git",
        "1:2.42.0-1",
        "pkg:deb/debian/git@1:2.42.0-1?arch=amd64",
    )
    assert git["cpe"].startswith("cpe:2.3:a:git-scm:git:")
    assert not {"cpe", "components"} & man.keys()
    properties = {each["name"]: each["value"] for each in man["properties"]}
    assert properties["nix:output"] == "man"
    assert properties["nixery:layer"] == LAYER
    assert {"name": "nixery:named", "value": "true"} in git["properties"]
    assert "nixery:named" not in properties
    # Trivy lists nothing else.
    assert {each["type"] for each in made["components"]} == {"library"}


def test_licences_that_spdx_knows() -> None:
    """Licences are one expression if SPDX knows them all."""
    package = attrs.evolve(USUAL.packages[0], licences=("MIT OR Apache-2.0", "BSD-3-Clause"))
    made = validated(attrs.evolve(USUAL, packages=(package,)))
    expression = "(MIT OR Apache-2.0) AND BSD-3-Clause"
    assert made["components"][0]["licenses"] == [{"expression": expression}]


def test_dependencies() -> None:
    """The image depends on what was named, and each store path on what it refers to."""
    made = validated(USUAL)
    image = made["metadata"]["component"]["bom-ref"]
    assert {each["ref"]: each["dependsOn"] for each in made["dependencies"]} == {
        image: [GIT],
        GIT: [LIBC, MAN],
        LIBC: [],
        MAN: [],
    }


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(any_contents())
def test_any_document_is_valid(contents: Contents) -> None:
    """Whatever a package set says, the document is valid."""
    assert len(validated(contents)["components"]) == len(contents.paths)


@pytest.mark.parametrize("count", [0, 300])
def test_number_of_paths(count: int) -> None:
    """An image may have no store path, or many."""
    contents = many(count) if count else attrs.evolve(USUAL, packages=(), paths=(), layers=())
    assert len(validated(contents)["components"]) == count
