"""Files for those who run it: they name what there is."""

import re
import runpy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from nixery import settings
from nixery.unknown import OF_COMMAND
from tests.e2e.clients import run

TESTS = Path(__file__).parent
TOP = TESTS.parent
KUBERNETES = sorted((TOP / "deploy" / "kubernetes").glob("*.yaml"))
ALERTS = TOP / "deploy" / "prometheus" / "alerts.yaml"
SETTINGS = {each.variable: each for each in settings.SETTINGS}
OTHERS = {
    *("STATE_DIRECTORY", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("AWS_REGION", "AWS_SHARED_CREDENTIALS_FILE"),
}


def workload(path: Path) -> dict[str, Any]:
    """The Deployment or StatefulSet of a file."""
    documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    (found,) = [each for each in documents if each["kind"] in ("Deployment", "StatefulSet")]
    spec: dict[str, Any] = found["spec"]
    return spec


def container(path: Path) -> dict[str, Any]:
    (only,) = workload(path)["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_takes_it(path: Path) -> None:
    """Every document has the fields that its kind has in Kubernetes, and no others."""
    for document in yaml.safe_load_all(path.read_text("utf-8")):
        kubernetes_validate.validate(document, "1.30", strict=True)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_settings_exist(path: Path) -> None:
    """Every setting of a manifest is one that there is, with a value that is taken."""
    for each in container(path)["env"]:
        if each["name"] not in OTHERS:
            SETTINGS[each["name"]].read(each["value"])


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_probes_and_ports(path: Path) -> None:
    """Probes ask what there is, at the port where it is; the service leads to the registry."""
    made = container(path)
    ports = {port["name"]: port["containerPort"] for port in made["ports"]}
    environ = {each["name"]: each["value"] for each in made["env"]}
    assert environ["PORT"] == str(ports["registry"])
    assert environ["NIXERY_OPERATIONS_LISTEN"] == f"tcp:{ports['operations']}"
    probes = {name: made[name]["httpGet"] for name in made if name.endswith("Probe")}
    assert {probe["port"] for probe in probes.values()} == {"operations"}
    assert probes["readinessProbe"]["path"] == "/readyz"
    assert probes["livenessProbe"]["path"] == "/healthz"
    documents = yaml.safe_load_all(path.read_text("utf-8"))
    (service,) = [each for each in documents if each["kind"] == "Service"]
    assert service["spec"]["ports"][0]["targetPort"] == "registry"
    assert service["spec"]["selector"] == workload(path)["selector"]["matchLabels"]


def _pause(path: Path) -> int:
    """Seconds before the daemon is told to stop, in which others hear that it is to."""
    program, seconds = container(path)["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    return int(seconds)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_no_privileges(path: Path) -> None:
    """It runs as a user without capabilities, takes connections until none come any more, and has
    time to finish its answers."""
    pod = workload(path)["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container(path)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert _pause(path) > 0
    drain = int(SETTINGS["NIXERY_DRAIN"].default)
    # As much as the unit of systemd gives it: ending Nix takes a while.
    assert pod["terminationGracePeriodSeconds"] >= _pause(path) + drain + 30
    if "volumeClaimTemplates" in workload(path):
        # Kubernetes would change the modes of all files in Nix's store, one by one.
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    mounted = {mount["name"] for mount in container(path)["volumeMounts"]}
    claimed = {each["metadata"]["name"] for each in workload(path).get("volumeClaimTemplates", [])}
    assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_builds_fit(path: Path) -> None:
    """Nix's memory is bounded below the container's limit, beyond which the daemon may be ended
    too, and its store is on a disk whose free room is its own."""
    environ = {each["name"]: each["value"] for each in container(path)["env"]}
    many = SETTINGS["NIXERY_MAX_BUILDS"].read(environ["NIXERY_MAX_BUILDS"])
    memory = SETTINGS["NIXERY_NIX_MEMORY"].read(environ["NIXERY_NIX_MEMORY"])
    limit = container(path)["resources"]["limits"]["memory"]
    assert many * memory + 1e9 < int(limit.removesuffix("Gi")) * 2**30
    volumes = {each["name"]: each for each in workload(path)["template"]["spec"]["volumes"]}
    assert "emptyDir" not in volumes.get("state", {})


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8080/healthz"),
        ({"PORT": "81"}, "http://127.0.0.1:81/healthz"),
        ({"NIXERY_LISTEN": "tcp:82:interface=10.0.0.5"}, "http://10.0.0.5:82/healthz"),
        ({"NIXERY_LISTEN": r"tcp6:port=83:interface=\:\:1"}, "http://[::1]:83/healthz"),
        ({"NIXERY_LISTEN": "ssl:84:certKey=/c:privateKey=/k"}, "https://127.0.0.1:84/healthz"),
        ({"NIXERY_TLS_CERT": "/c", "PORT": "85"}, "https://127.0.0.1:85/healthz"),
        (
            {"NIXERY_TLS_CERT": "/c", "NIXERY_OPERATIONS_LISTEN": "tcp:86"},
            "http://127.0.0.1:86/healthz",
        ),
        ({"NIXERY_LISTEN": "unix:/run/nixery"}, None),
    ],
)
def test_a_container_asks_where_it_listens(environ: dict[str, str], url: str | None) -> None:
    """The health check of a container asks the daemon at the address that it was told."""
    assert runpy.run_path(str(TOP / "deploy/container/healthy"))["url_of"](environ) == url


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.program
def test_alerts_come_when_they_should() -> None:
    """Prometheus itself raises each alert for the numbers that it is about, and not for others."""
    cases = yaml.safe_load((TESTS / "alerts.yaml").read_text("utf-8"))["tests"]
    expected = {
        a["alertname"] for case in cases for a in case["alert_rule_test"] if "exp_alerts" in a
    }
    assert expected == {rule["alert"] for rule in rules()}
    done = run(["promtool", "test", "rules", str(TESTS / "alerts.yaml")])
    assert done.code == 0, done.output


def test_every_alert_is_explained() -> None:
    """The runbook has a heading for every alert, and for no other."""
    page = (TOP / "docs" / "runbook.md").read_text("utf-8")
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in rules()]


def test_alerts_are_about_metrics_that_exist() -> None:
    """Alerts name metrics, and outcomes, that the daemon has."""
    page = (TOP / "docs" / "metrics.md").read_text("utf-8")
    known = set(re.findall(r"^\| `([a-z_]+)`", page, re.MULTILINE))
    for rule in rules():
        named = re.findall(r"nixery_[a-z_]+", rule["expr"])
        assert {name for name in named if name not in known} == set(), rule["alert"]
        for outcome in re.findall(r'nixery_pulls_total\{outcome="(\w+)"', rule["expr"]):
            assert f"`{outcome}`" in page


PAGES = ["README.md", *sorted(str(page.relative_to(TOP)) for page in TOP.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_settings_that_exist(page: str) -> None:
    """No page speaks of a setting that there is not."""
    # Variables of click, which completes the command, begin with an underscore.
    named = set(re.findall(r"(?<!_)NIXERY_[A-Z_]+[A-Z]", (TOP / page).read_text("utf-8")))
    ours = {"NIXERY_CHAOS_SEED", "NIXERY_CHAOS_SECONDS", "NIXERY_TEST_STATE"}
    assert named - set(SETTINGS) - ours - set(OF_COMMAND) == set()
