"""The provenance of images."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given

from nixery.attest.provenance import builder_at, provenance_document
from nixery.model.contents import Contents
from tests.attest.samples import GIT, LIBC, MAN, SUBJECT, USUAL, any_contents


def stated(contents: Contents) -> Any:
    return json.loads(provenance_document(contents, SUBJECT, "https://builder").content)


def test_statement() -> None:
    """It is a statement about the image, with what it was made of, and by whom."""
    statement = stated(USUAL)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "git", "digest": {"sha256": SUBJECT.digest.hex}}]
    definition, run = (statement["predicate"][n] for n in ("buildDefinition", "runDetails"))
    assert definition["externalParameters"] == {
        "name": "git",
        "system": "x86_64-linux",
        "packages": ["gitMinimal"],
    }
    assert run["builder"] == {"id": "https://builder"}
    source, libc = definition["resolvedDependencies"]
    assert source == {
        "name": "package set",
        "uri": f"git+https://example.com/set@{'1' * 40}",
        "digest": {"gitCommit": "1" * 40},
    }
    assert libc["name"] == LIBC
    assert libc["annotations"] == {
        "substituter": "https://cache.example.com",
        "signers": ["cache.example.com-1"],
    }
    assert [each["name"] for each in run["byproducts"]] == [GIT, MAN]
    assert len(run["byproducts"][0]["digest"]["sha256"]) == 64


def test_builder() -> None:
    """The builder is the registry, where it is known by which host that is reached."""
    assert builder_at("example.com:5000/x") == "https://example.com:5000/x"
    assert builder_at("") == "urn:nixery:builder"


@pytest.mark.parametrize("revision", ["a" * 64, "sha256-abc="])
def test_sources_that_are_no_commits(revision: str) -> None:
    """What is no commit is told as a revision, and what images don't name has no address."""
    contents = attrs.evolve(USUAL, source="folder:set", revision=revision, address="")
    source = stated(contents)["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    assert source == {"name": "package set", "annotations": {"revision": revision}}


@given(any_contents())
def test_every_path_is_accounted_for(contents: Contents) -> None:
    """Each store path is either what the image was made from, or what was built for it."""
    predicate = stated(contents)["predicate"]
    _, *taken = predicate["buildDefinition"]["resolvedDependencies"]
    names = [each["name"] for each in (*taken, *predicate["runDetails"]["byproducts"])]
    assert sorted(names) == [facts.path for facts in contents.paths]
