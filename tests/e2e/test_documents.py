"""SBOM and provenance of real images, as scanners and others read them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from tests.e2e.daemon import Daemon

pytestmark = [pytest.mark.real_nix, pytest.mark.program]

SYFT = str(Path(sys.executable).with_name("syft"))
NAME = "shell/git/python3"


@pytest.fixture(scope="module")
def digest(daemon: Daemon) -> str:
    """The digest of an image that was made."""
    return daemon.pull(NAME).headers["Docker-Content-Digest"]


def document(daemon: Daemon, path: str) -> Any:
    answer = daemon.get(f"/images/{NAME}:latest/{path}")
    assert answer.status == 200, answer.body
    return answer.json()


def listed(path: Path) -> set[tuple[str, str]]:
    """Name and version of the packages of Nix that Syft finds in an SBOM."""
    environ = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "HOME": str(path.parent)}
    command = [SYFT, "convert", str(path), "-o", "json"]
    found = subprocess.run(command, env=environ, check=True, capture_output=True).stdout
    every = json.loads(found)["artifacts"]
    return {(each["name"], each["version"]) for each in every if each["type"] == "nix"}


@pytest.mark.parametrize("format", ["spdx", "cyclonedx"])
def test_a_scanner_lists_the_packages(
    daemon: Daemon, digest: str, tmp_path: Path, format: str
) -> None:
    """Syft finds each package that was named, with its version, and all that these need."""
    path = tmp_path / "sbom.json"
    path.write_text(json.dumps(document(daemon, f"sbom?format={format}")))
    found = listed(path)
    components = document(daemon, "sbom?format=cyclonedx")["components"]
    assert found == {(each["name"], each.get("version", "")) for each in components}
    versions = dict(found)
    for package in ("bash", "coreutils", "git", "python3"):
        assert versions[package][0].isdigit()


def test_both_formats_are_valid(daemon: Daemon, digest: str) -> None:
    """The libraries of both formats' projects find nothing wrong."""
    spdx = JsonLikeDictParser().parse(document(daemon, "sbom?format=spdx"))
    assert validate_full_spdx_document(spdx) == []
    cyclonedx = json.dumps(document(daemon, "sbom?format=cyclonedx"))
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(cyclonedx) is None


def test_packages_of_debian(daemon: Daemon, digest: str) -> None:
    """Both formats name the packages of Debian that a named package was made of."""
    for format in ("spdx", "cyclonedx"):
        made = json.dumps(document(daemon, f"sbom?format={format}"))
        assert "pkg:deb/debian/git@" in made or "pkg:deb/ubuntu/git@" in made


def test_all_that_is_in_the_layers(daemon: Daemon, digest: str) -> None:
    """The SBOM has each store path that is in the image, and no other."""
    made = document(daemon, "sbom?format=cyclonedx")
    layers = {
        layer["digest"] for layer in daemon.get(f"/v2/{NAME}/manifests/{digest}").json()["layers"]
    }
    properties = [
        {each["name"]: each["value"] for each in component["properties"]}
        for component in made["components"]
    ]
    assert {each["nixery:layer"] for each in properties} <= layers
    assert len(layers) - len({each["nixery:layer"] for each in properties}) == 1  # the topmost
    references = {ref for each in made["dependencies"] for ref in each["dependsOn"]}
    assert references <= {component["bom-ref"] for component in made["components"]}


def test_what_was_built_here(daemon: Daemon, digest: str) -> None:
    """The provenance tells that everything was built here, since the tests have no binary cache."""
    statement = document(daemon, "provenance")
    assert statement["subject"][0]["digest"]["sha256"] == digest.removeprefix("sha256:")
    made = document(daemon, "sbom?format=cyclonedx")
    byproducts = statement["predicate"]["runDetails"]["byproducts"]
    assert {each["name"] for each in byproducts} == {c["bom-ref"] for c in made["components"]}
    assert all(each["annotations"]["derivation"].endswith(".drv") for each in byproducts)


def test_nothing_private(daemon: Daemon, digest: str) -> None:
    """No document names a place on this machine."""
    for path in ("sbom?format=spdx", "sbom?format=cyclonedx", "provenance"):
        content = daemon.get(f"/images/{NAME}:latest/{path}").body.decode()
        assert str(daemon.state) not in content
        assert daemon.environ["NIXERY_PKGS_PATH"] not in content
