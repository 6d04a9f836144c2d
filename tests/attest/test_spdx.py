"""SBOMs as SPDX documents, checked by the SPDX project's own library."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from spdx_tools.spdx.model.document import Document as SpdxDocument
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from nixery.attest.spdx import MEDIA_TYPE, PREDICATE, spdx_document
from nixery.model.contents import Contents
from tests.attest.samples import GIT, LAYER, LIBC, MAN, SUBJECT, USUAL, any_contents, many


def validated(contents: Contents) -> SpdxDocument:
    """The document about an image, read and validated."""
    made = json.loads(spdx_document(contents, SUBJECT).content)
    document: SpdxDocument = JsonLikeDictParser().parse(made)
    assert validate_full_spdx_document(document) == []
    return document


def of_package(path: str) -> dict[str, Any]:
    packages = json.loads(spdx_document(USUAL, SUBJECT).content)["packages"]
    (found,) = [each for each in packages if each.get("packageFileName") == path]
    return dict(found)


def test_usual_document() -> None:
    """A document has a package for the image and one for each store path, with what is known."""
    document = validated(USUAL)
    assert [package.name for package in document.packages] == ["git", "git", "glibc", "git"]
    found = of_package(GIT)
    assert found["versionInfo"] == "2.42.0"
    assert found["licenseDeclared"].startswith("GPL-2.0-only AND LicenseRef-own-licence-")
    assert found["homepage"] == "https://git-scm.com/"
    assert found["description"] == "Distributed version control system"
    assert LAYER in found["sourceInfo"]
    assert "built here" in found["sourceInfo"]
    assert of_package(LIBC)["licenseDeclared"] == "NOASSERTION"
    assert "fetched from https://cache.example.com" in of_package(LIBC)["sourceInfo"]
    assert [each["referenceLocator"] for each in found["externalRefs"][1:]] == [
        "pkg:deb/debian/git@1:2.42.0-1?arch=amd64",
        "cpe:2.3:a:git-scm:git:2.42.0:*:*:*:*:*:*:*",
    ]
    (own,) = document.extracted_licensing_info
    assert own.extracted_text == "own licence"


def test_relationships() -> None:
    """The image contains all store paths, and depends on those that were named; these depend on
    what they refer to."""
    made = json.loads(spdx_document(USUAL, SUBJECT).content)
    ids = {each.get("packageFileName"): each["SPDXID"] for each in made["packages"]}
    image, git, libc, man = ids[None], ids[GIT], ids[LIBC], ids[MAN]
    found = {
        (each["spdxElementId"], each["relationshipType"], each["relatedSpdxElement"])
        for each in made["relationships"]
    }
    assert found == {
        ("SPDXRef-DOCUMENT", "DESCRIBES", image),
        *((image, "CONTAINS", each) for each in (git, libc, man)),
        (image, "DEPENDS_ON", git),
        (git, "DEPENDS_ON", libc),
        (git, "DEPENDS_ON", man),
    }


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(any_contents())
def test_any_document_is_valid(contents: Contents) -> None:
    """Whatever a package set says, the document is valid."""
    assert len(validated(contents).packages) == len(contents.paths) + 1


@pytest.mark.parametrize("count", [0, 300])
def test_number_of_paths(count: int) -> None:
    """An image may have no store path, or many."""
    contents = many(count) if count else attrs.evolve(USUAL, packages=(), paths=(), layers=())
    assert len(validated(contents).packages) == count + 1


def test_it_is_told_by_its_types() -> None:
    """The document has the types by which clients look for SPDX."""
    document = spdx_document(USUAL, SUBJECT)
    assert document.artifact_type == document.media_type == MEDIA_TYPE == "application/spdx+json"
    assert document.predicate_type == PREDICATE == "https://spdx.dev/Document"
