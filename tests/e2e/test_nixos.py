"""Nixery for NixOS, and its container image by Nix: evaluated with a stand-in for nixpkgs."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.e2e.packages import TOP
from tests.e2e.test_units import UNITS, Unit

pytestmark = pytest.mark.real_nix

NIX = TOP / "nix"
STAND_IN = Path(__file__).with_name("nixpkgs")

_MODULE = """
let
  pkgs = import <nixpkgs> { };
  module = import %(module)s {
    inherit pkgs;
    inherit (pkgs) lib;
    config.services.nixery =
      builtins.mapAttrs (_: option: option.default) module.options.services.nixery // %(given)s;
  };
in module.config
"""


def evaluate(expression: str) -> Any:
    """What an expression is, with the stand-in as nixpkgs; no store is needed."""
    done = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", "-"],
        input=expression.encode(),
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            "NIX_PATH": f"nixpkgs={STAND_IN}",
            "NIX_CONF_DIR": "/nonexistent",
            "NIX_USER_CONF_FILES": "/dev/null",
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def module(given: str) -> Any:
    """What the module makes of settings."""
    return evaluate(_MODULE % {"module": NIX / "module.nix", "given": given})


def as_unit(settings: dict[str, Any]) -> dict[str, str]:
    """Settings as they stand in unit files."""
    words = {True: "yes", False: "no"}
    return {n: words[v] if isinstance(v, bool) else str(v) for n, v in settings.items()}


def test_the_service_is_the_same() -> None:
    """The module's service has the settings of the unit: none is missing, none is another's."""
    unit = Unit(UNITS / "nixery.service")
    service = module("{ enable = true; }")["systemd"]["services"]["nixery"]
    here, there = as_unit(service["serviceConfig"]), dict(unit["Service"])
    for settings in (here, there):
        # These name programs and files, which are elsewhere.
        assert settings.pop("ExecStart").partition("/bin/twistd")[1:] == (
            "/bin/twistd",
            " --nodaemon --pidfile= nixery",
        )
        assert settings.pop("ExecReload").endswith("/bin/kill -HUP $MAINPID")
    environ = dict(word.split("=", 1) for word in there.pop("Environment").split())
    assert service["environment"] == environ
    del there["EnvironmentFile"]
    assert here == there
    of_unit = {"Description": service["description"], **as_unit(service["unitConfig"])}
    of_unit |= {"Wants": " ".join(service["wants"]), "After": " ".join(service["after"])}
    assert of_unit.items() <= dict(unit["Unit"]).items()


def test_the_socket_is_the_same() -> None:
    """The module's socket has the settings of the unit, and the port that is chosen."""
    unit = Unit(UNITS / "nixery.socket")
    socket = module("{ enable = true; }")["systemd"]["sockets"]["nixery"]
    assert as_unit(socket["socketConfig"]) == dict(unit["Socket"])
    assert socket["wantedBy"] == unit["Install"]["WantedBy"].split()
    other = module("{ enable = true; port = 80; openFirewall = true; }")
    assert other["systemd"]["sockets"]["nixery"]["socketConfig"]["ListenStream"] == 80
    assert other["networking"]["firewall"]["allowedTCPPorts"] == [80]


def test_settings_become_the_environment() -> None:
    """Settings of the module are the daemon's, and secrets may come from a file."""
    given = """{
      enable = true;
      settings = { NIXERY_CHANNEL = "nixos-unstable"; NIXERY_MAX_BUILDS = 8; };
      environmentFile = "/run/keys/nixery";
    }"""
    service = module(given)["systemd"]["services"]["nixery"]
    assert service["environment"]["NIXERY_MAX_BUILDS"] == "8"
    assert service["environment"]["NIXERY_CHANNEL"] == "nixos-unstable"
    assert service["serviceConfig"]["EnvironmentFile"] == "/run/keys/nixery"


def test_nothing_unless_enabled() -> None:
    """The module alone changes nothing."""
    assert module("{ }") == {}


def test_the_package_is_the_project() -> None:
    """The package has the project's version and needs the same libraries, and no others."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    # An extra of pyjwt is one library, twisted's are several.
    needed = [Requirement(text).name for text in project["dependencies"]]
    named = {name.replace("_", "-").replace(".", "-") for name in needed}
    package = "(import <nixpkgs> { }).callPackage %s { }" % (NIX / "package.nix")
    library = f"({package}).library.arguments"
    assert set(evaluate(f"map (each: each.pname) {library}.dependencies")) == named
    assert evaluate(f"{library}.version") == project["version"]


def test_the_image_is_that_of_the_dockerfile() -> None:
    """Both ways to make an image agree on how it is run."""
    dockerfile = (TOP / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    said = dict(line.split(" ", 1) for line in dockerfile.splitlines()[1:] if line[:1].isupper())
    image = evaluate(f"(import {NIX / 'container.nix'} {{ }}).arguments.config")
    environ = dict(each.split("=", 1) for each in image["Env"])
    del environ["PATH"]
    assert environ == dict(word.split("=", 1) for word in said["ENV"].split())
    assert image["Entrypoint"] == json.loads(said["ENTRYPOINT"])
    assert image["User"] == said["USER"]
    assert image["WorkingDir"] == said["WORKDIR"]
    assert image["StopSignal"] == said["STOPSIGNAL"]
    assert list(image["ExposedPorts"]) == said["EXPOSE"].split()
    # In an image made by Nix, its own programs lie in /nix.
    assert {*image["Volumes"], "/nix"} == set(json.loads(said["VOLUME"]))
    check = re.search(r"CMD (.*)", said["HEALTHCHECK"])
    assert check is not None
    assert image["Healthcheck"]["Test"] == ["CMD", *json.loads(check[1])]
