"""Settings that do not exist."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery import unknown
from nixery.settings import NAMES as KNOWN
from nixery.unknown import unknown_option

TOP = Path(__file__).resolve().parents[1]
NAMES = sorted(KNOWN)


def unknown_variables(environ: dict[str, str]) -> list[str]:
    return unknown.unknown_variables(environ, KNOWN)


def service_links(environ: dict[str, str]) -> list[str]:
    return unknown.service_links(environ, KNOWN)


# A pod's environment in a namespace with Services named nixery and nixery-operations.
LINKS = {
    "NIXERY_SERVICE_HOST": "10.96.0.7",
    "NIXERY_SERVICE_PORT": "80",
    "NIXERY_SERVICE_PORT_HTTP": "80",
    "NIXERY_PORT": "tcp://10.96.0.7:80",
    "NIXERY_PORT_80_TCP": "tcp://10.96.0.7:80",
    "NIXERY_PORT_80_TCP_PROTO": "tcp",
    "NIXERY_PORT_80_TCP_PORT": "80",
    "NIXERY_PORT_80_TCP_ADDR": "10.96.0.7",
    "NIXERY_OPERATIONS_SERVICE_HOST": "10.96.0.8",
    "NIXERY_OPERATIONS_SERVICE_PORT": "9090",
    "NIXERY_OPERATIONS_PORT": "tcp://[fd00::1]:9090",
    "NIXERY_OPERATIONS_PORT_9090_UDP_ADDR": "fd00::1",
}


def test_all_settings_are_known() -> None:
    """No setting is unknown, nor what others may have set."""
    others = {"PATH": "/bin", "XNIXERY_A": "", "NIX_PATH": "", "NIXERY": "", "BUCKETS": "x"}
    assert unknown_variables({**dict.fromkeys(NAMES, "x"), **others}) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NIXERY_HTPASWD", "NIXERY_HTPASSWD"),
        ("NIXERY_HTPASSWORD", "NIXERY_HTPASSWD"),
        ("NIXERY_TOKEN", "NIXERY_TOKENS"),
        ("NIXERY_RULE", "NIXERY_RULES"),
        ("nixery_rules", "NIXERY_RULES"),
        ("NIXERY_PKGS_PAHT", "NIXERY_PKGS_PATH"),
        ("NIXERY_STORAGE_PATH", "STORAGE_PATH"),
        ("NIXERY_BUCKET", "BUCKET"),
        ("NIXERY_PORT", "PORT"),
    ],
)
def test_what_was_meant(name: str, meant: str) -> None:
    """The nearest setting is named, whatever is set to what, and not the value."""
    (fault,) = unknown_variables({name: "secret", "NIXERY_HOLD": "1"})
    assert fault.startswith(f"{name} is not a setting; did you mean {meant}? ")
    assert "secret" not in fault


def test_nothing_near() -> None:
    """Where nothing is near, nothing is suggested."""
    (fault,) = unknown_variables({"NIXERY_QQQQQQ": ""})
    assert fault == "NIXERY_QQQQQQ is not a setting; twistd nixery --help lists all settings"


def test_services_of_kubernetes() -> None:
    """What Kubernetes sets for a Service named nixery, or nixery-something, is no setting and no
    fault; the same name with what a person would write is one."""
    assert unknown_variables(LINKS) == []
    assert service_links(LINKS) == sorted(LINKS)
    assert service_links(dict.fromkeys(NAMES, "8080")) == []
    assert len(unknown_variables({"NIXERY_PORT": "8080", "NIXERY_OPERATIONS_PORT": "9"})) == 2


@given(st.sampled_from(NAMES), st.integers(0, 40), st.sampled_from(["", "X", "_"]))
def test_a_slip_is_noticed(name: str, place: int, instead: str) -> None:
    """A setting's name with one character left out or another in its place is never let pass,
    unless it is a setting, or not Nixery's own by its beginning."""
    slipped = name[:place] + instead + name[place + 1 :]
    faults = unknown_variables({slipped: "x"})
    fine = slipped in NAMES or not slipped.upper().startswith("NIXERY_")
    assert (faults == []) == fine


def test_what_the_tree_sets() -> None:
    """Every variable that anything in this tree sets for a daemon is a setting or known to be
    none."""
    names: set[str] = set()
    for folder in ("deploy", "systemd", "nix", "scripts", "benchmarks", "tests/e2e", "tests/chaos"):
        for path in (TOP / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".png", ".pyc"):
                names.update(re.findall(r"\bNIXERY_[A-Z0-9_]*[A-Z0-9]\b", path.read_text("utf-8")))
    assert len(names) > 20
    assert unknown_variables(dict.fromkeys(names, "x")) == []


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--htpaswd", "there is no option --htpaswd; did you mean --htpasswd? "),
        ("prot", "there is no option --prot; did you mean --port? "),
        ("x", "there is no option -x; --help"),
    ],
)
def test_options(option: str, said: str) -> None:
    """An unknown option is answered with the nearest one."""
    assert unknown_option(option, ["htpasswd", "port", "help"]).startswith(said)
