"""The contents of an image as a CycloneDX document.

https://cyclonedx.org/docs/1.5/json/. Scanners read this version, and some of them no later one. The
tests have the CycloneDX project's own library validate it.
"""

import uuid
from itertools import chain
from typing import Any

from packageurl import PackageURL

from nixery.attest.components import EPOCH, PathComponent, components_of, image_purl
from nixery.attest.document import Document, encode
from nixery.attest.licences import licensed
from nixery.model.contents import Contents
from nixery.model.manifest import Descriptor

MEDIA_TYPE = "application/vnd.cyclonedx+json"
PREDICATE = "https://cyclonedx.org/bom"

_NAMESPACE = uuid.UUID("b9a6f0c6-4b7e-5b47-9a0e-6a3d1a2f7c11")
"""Of serial numbers; nothing but that it never changes matters."""


def cyclonedx_document(contents: Contents, subject: Descriptor) -> Document:
    """The SBOM of an image as CycloneDX 1.5 JSON: the same bytes for the same contents.

    :param subject: the image's manifest.
    """
    components = components_of(contents)
    image = image_purl(contents, subject)
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, str(subject.digest))}",
        "version": 1,
        "metadata": {
            "timestamp": EPOCH,
            # The older one of two forms: some releases of Trivy read no document with the other.
            "tools": [{"name": "nixery"}],
            "component": {
                "type": "container",
                "bom-ref": image,
                "name": contents.name,
                "version": str(subject.digest),
                "hashes": [_hash(subject.digest.hex)],
                "purl": image,
            },
        },
        "components": map(_component, components),
        "dependencies": chain(
            [{"ref": image, "dependsOn": [each.path for each in components if each.named]}],
            ({"ref": c.path, "dependsOn": c.facts.references} for c in components),
        ),
    }
    return Document(MEDIA_TYPE, MEDIA_TYPE, encode(content), PREDICATE, "sbom.cdx.json")


def _component(component: PathComponent) -> dict[str, Any]:
    package = component.package
    properties = {
        "nix:output_path": component.path,
        "nix:drv_path": component.facts.deriver,
        "nix:output": component.output,
        "nixery:layer": component.layer,
        "nixery:origin": component.origin,
        "nixery:named": "true" if component.named else "",
    }
    homepage = component.homepage
    optional = {
        "version": component.version,
        "description": package.description if package else "",
        "hashes": [_hash(component.nar_sha256)] if component.nar_sha256 else [],
        "licenses": _licences(package.licences) if package else [],
        "externalReferences": [{"type": "website", "url": homepage}] if homepage else [],
        "cpe": component.cpe,
        "components": [_ingredient(component.path, each) for each in component.ingredients],
    }
    return {
        "type": "library",  # Trivy lists no applications, not even by name
        "bom-ref": component.path,
        "name": component.name,
        "purl": component.purl,
        **{name: value for name, value in optional.items() if value},
        "properties": [{"name": name, "value": text} for name, text in properties.items() if text],
    }


def _ingredient(path: str, purl: PackageURL) -> dict[str, str]:
    found = {
        "type": "library",
        "bom-ref": f"{path}#{purl.to_string()}",
        "name": purl.name,
        "version": purl.version or "",
        "purl": purl.to_string(),
    }
    return {name: value for name, value in found.items() if value}


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}


def _licences(licences: tuple[str, ...]) -> list[dict[str, Any]]:
    """One expression, or names if SPDX does not know them all: here, these can't be mixed."""
    known = licensed(licences)
    if known.own:
        return [{"license": {"name": name}} for name in licences]
    return [{"expression": known.expression}] if known.expression else []
