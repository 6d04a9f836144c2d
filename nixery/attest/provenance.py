"""The provenance of an image: from what, and by whom, it was made.

https://slsa.dev/spec/v1.0/provenance.
"""

from itertools import chain
from typing import Any

from nixery.attest.components import PathComponent, components_of
from nixery.attest.document import IN_TOTO, Document, encode, statement_about
from nixery.model.contents import Contents
from nixery.model.manifest import Descriptor
from nixery.model.source import is_commit

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:nixery:image:v1"
"""The way of building that ``docs/attestations.md`` describes."""
BUILDER = "urn:nixery:builder"
"""The builder where it is not known by which host it is reached."""


def builder_at(host: str) -> str:
    """The URI of the builder whose images are pulled from a host.

    :param host: with its port, if clients name it; empty if it is not known.
    """
    return f"https://{host}" if host else BUILDER


def provenance_document(
    contents: Contents, subject: Descriptor, builder: str = BUILDER
) -> Document:
    """The SLSA provenance of an image, as an in-toto statement: the same bytes for the same
    contents.

    :param subject: the image's manifest.
    :param builder: the URI of who made it.
    """
    components = components_of(contents)
    built = set(contents.built)
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "name": contents.name,
                "system": contents.system,
                "packages": [package.package for package in contents.packages],
            },
            "resolvedDependencies": chain(
                [_source(contents)],
                (_path(each, contents) for each in components if each.path not in built),
            ),
        },
        "runDetails": {
            "builder": {"id": builder},
            "byproducts": (_path(each, contents) for each in components if each.path in built),
        },
    }
    statement = statement_about(subject, contents.name, PREDICATE) | {"predicate": predicate}
    return Document(IN_TOTO, IN_TOTO, encode(statement), PREDICATE, "provenance.json")


def _source(contents: Contents) -> dict[str, Any]:
    """The package set, by the address that images name, if they name one."""
    told: dict[str, Any] = {"name": "package set"}
    if contents.address:
        told["uri"] = f"git+{contents.address}@{contents.revision}"
    # The fingerprint of a folder has the form of a commit in a repository with sha256.
    is_fingerprint = contents.source.startswith("folder:") and len(contents.revision) == 64
    if is_commit(contents.revision) and not is_fingerprint:
        return told | {"digest": {"gitCommit": contents.revision}}
    return told | {"annotations": {"revision": contents.revision}}


def _path(component: PathComponent, contents: Contents) -> dict[str, Any]:
    """A store path; the digest is that of its NAR."""
    annotations = {
        "derivation": component.facts.deriver,
        "substituter": contents.substituted.get(component.path, ""),
        "signers": list(component.facts.signers),
    }
    return {
        "name": component.path,
        "uri": component.purl,
        **({"digest": {"sha256": component.nar_sha256}} if component.nar_sha256 else {}),
        "annotations": {name: value for name, value in annotations.items() if value},
    }
