"""The Helm chart, as Helm itself renders it."""

import json
import tomllib
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from nixery.setting_groups import BucketChoice, S3Choice
from nixery.settings import Settings
from tests.helm import CHART, MANIFESTS, helm, manifest, rendered
from tests.test_deploy import KUBERNETES, OTHERS, SETTINGS, TOP

pytestmark = pytest.mark.program

EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
OF_OTHERS = {"gateway.networking.k8s.io/v1", "monitoring.coreos.com/v1"}
"""Kinds that a cluster has for whoever installs them; Kubernetes has no schema of these."""


@cache
def documents(example: str) -> list[dict[str, Any]]:
    """All that Kubernetes gets of an example."""
    return [each for each in yaml.safe_load_all(rendered(example)) if each is not None]


def kinds(example: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in documents(example) if each["kind"] == kind]


def only(example: str, kind: str) -> dict[str, Any]:
    (found,) = kinds(example, kind)
    return found


def pod(example: str) -> dict[str, Any]:
    """The pod's template of an example."""
    (workload,) = kinds(example, "Deployment") + kinds(example, "StatefulSet")
    template: dict[str, Any] = workload["spec"]["template"]
    assert (
        template["metadata"]["labels"].items()
        >= workload["spec"]["selector"]["matchLabels"].items()
    )
    return template


def container(example: str) -> dict[str, Any]:
    (found,) = pod(example)["spec"]["containers"]
    made: dict[str, Any] = found
    return made


def environ(example: str) -> dict[str, str]:
    """The variables whose values are said."""
    names = [each["name"] for each in container(example)["env"]]
    assert len(names) == len(set(names))
    return {each["name"]: each["value"] for each in container(example)["env"] if "value" in each}


@pytest.mark.parametrize("example", EXAMPLES)
def test_helm_finds_no_fault(example: str) -> None:
    """Helm's own check passes, with warnings taken for faults."""
    values = str(CHART / "examples" / f"{example}.yaml")
    done = helm("lint", "--strict", str(CHART), "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("version", ["1.25", "1.30", "1.35"])
def test_kubernetes_takes_it(example: str, version: str) -> None:
    """Every document has the fields that its kind has in Kubernetes, and no others."""
    for each in documents(example):
        if each["apiVersion"] not in OF_OTHERS:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_daemon_takes_its_settings(example: str) -> None:
    """All variables are ones that there are, with values that are taken, alone and together."""
    said = environ(example)
    from_secrets = {each["name"] for each in container(example)["env"]} - said.keys()
    for name in said.keys() | from_secrets:
        assert name in SETTINGS or name in OTHERS or name.startswith(("OTEL_", "NIX_")), name
    settings = Settings.from_environ(said)
    kind = {"gcs": BucketChoice, "s3": S3Choice, "everything": S3Choice, "volume": None.__class__}
    assert type(settings.bucket) is kind[example]
    memory = settings.builds.at_once * settings.builds.memory
    limit = container(example)["resources"]["limits"]["memory"]
    assert memory + 1e9 < int(limit.removesuffix("Gi")) * 2**30


@pytest.mark.parametrize("example", EXAMPLES)
def test_secrets_are_named_only(example: str) -> None:
    """No secret is made: all are named; every file that a variable names is mounted."""
    assert kinds(example, "Secret") == []
    volumes = {each["name"]: each for each in pod(example)["spec"]["volumes"]}
    claims = [
        each["spec"].get("volumeClaimTemplates", []) for each in kinds(example, "StatefulSet")
    ]
    claimed = {claim["metadata"]["name"] for each in claims for claim in each}
    mounts = container(example)["volumeMounts"]
    assert {mount["name"] for mount in mounts} == volumes.keys() | claimed
    places = tuple(f"{mount['mountPath']}/" for mount in mounts)
    for name, value in environ(example).items():
        named = value.split() if value.startswith("/") else []
        assert all(path.startswith(places) for path in named), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_files_of_secrets(example: str) -> None:
    """A secret's files are there by the names that variables have for them, and the daemon alone
    can read them: it warns of a signing key that everybody can."""
    mounts = {each["name"]: each["mountPath"] for each in container(example)["volumeMounts"]}
    there = set()
    for volume in pod(example)["spec"]["volumes"]:
        for item in volume.get("secret", {}).get("items", []):
            there.add(f"{mounts[volume['name']]}/{item['path']}")
            assert item["path"] == item["key"]
            assert volume["secret"]["defaultMode"] == 0o440
    values = yaml.safe_load((CHART / "examples" / f"{example}.yaml").read_text("utf-8"))
    named = [environ(example)[name].split() for name in values.get("secretFiles", {})]
    assert {path for paths in named for path in paths} == there
    if example == "everything":
        keys = Settings.from_environ(environ(example)).signing.keys
        assert [path.rpartition("/")[2] for path in keys] == ["new.pem", "old.pem"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_probes_and_ports(example: str) -> None:
    """Probes ask at the port of health and metrics, and clients are led to that of the registry,
    in both families of addresses; the pod gets the time that its end takes."""
    made, said = container(example), environ(example)
    ports = {port["name"]: port["containerPort"] for port in made["ports"]}
    assert said["PORT"] == str(ports["registry"])
    assert said["NIXERY_OPERATIONS_LISTEN"] == f"tcp:{ports['operations']}"
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert made[name]["httpGet"]["port"] == "operations"
    labels = pod(example)["metadata"]["labels"]
    for service in kinds(example, "Service"):
        assert labels.items() >= service["spec"]["selector"].items()
        assert service["spec"]["ipFamilyPolicy"] in ("PreferDualStack", "RequireDualStack")
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    drain = int(said.get("NIXERY_DRAIN", SETTINGS["NIXERY_DRAIN"].default))
    pause = int(made["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod(example)["spec"]["terminationGracePeriodSeconds"] >= pause + drain + 30


def test_ways_in() -> None:
    """Ingress, route and monitor lead to services and ports that there are; with TLS, the service
    has its port."""
    services = {each["metadata"]["name"]: each for each in kinds("everything", "Service")}
    registry = services["nixery"]["spec"]["ports"][0]
    assert registry == {"name": "registry", "port": 443, "targetPort": "registry"}
    assert services["nixery"]["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    for rule in only("everything", "Ingress")["spec"]["rules"]:
        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": "nixery", "port": {"name": "registry"}}
    route = only("everything", "HTTPRoute")["spec"]
    assert route["parentRefs"][0]["name"] == "public"
    assert route["rules"][0]["backendRefs"] == [{"name": "nixery", "port": 443}]
    assert route["rules"][0]["timeouts"] == {"request": "0s"}
    monitor = only("everything", "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (watched,) = [s for s in services.values() if s["metadata"]["labels"].items() >= wanted]
    (end,) = monitor["spec"]["endpoints"]
    assert end["port"] in [port["name"] for port in watched["spec"]["ports"]]
    # Alerts and dashboard have this name of the job.
    assert watched["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "nixery"
    assert (
        only("everything", "ServiceAccount")["metadata"]["name"]
        == pod("everything")["spec"]["serviceAccountName"]
    )


def test_policies() -> None:
    """Policies are for the pods of the release; of one replica, none keeps a node from being
    drained."""
    labels = pod("everything")["metadata"]["labels"].items()
    budget = only("everything", "PodDisruptionBudget")["spec"]
    assert labels >= budget["selector"]["matchLabels"].items()
    network = only("everything", "NetworkPolicy")["spec"]
    assert labels >= network["podSelector"]["matchLabels"].items()
    assert [rule["ports"] for rule in network["ingress"]] == [
        [{"port": "registry"}],
        [{"port": "operations"}],
    ]
    assert network["policyTypes"] == ["Ingress", "Egress"]
    assert kinds("volume", "PodDisruptionBudget") == []
    assert kinds("gcs", "PodDisruptionBudget") != []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "replicas=2"], "set storage.type to gcs or s3"),
        (["--set", "storage.type=gcs"], "storage.bucket must name a bucket"),
        (["--set", "storage.type=folder"], "storage/type"),
        (
            ["--set", "storage.type=s3,storage.bucket=b,storage.existingClaim=c"],
            "can't share a Nix store",
        ),
        (["--set", "settings.NIXERY_STALE_IF_ERROR=true"], "got boolean, want null or string"),
        (["--set-string", "settings.PORT=8081"], "invalid propertyName 'PORT'"),
        (
            [
                *("--set-string", "settings.NIXERY_HTPASSWD=/users"),
                *("--set", "secretFiles.NIXERY_HTPASSWD.secret=s"),
                *("--set", "secretFiles.NIXERY_HTPASSWD.key=k"),
            ],
            "NIXERY_HTPASSWD is in settings and in a secret",
        ),
        (["--set", "secretFiles.NIXERY_TOKENS.value=secret"], "secretFiles/NIXERY_TOKENS"),
        (["--set", "ingress.enabled=true"], "ingress/hosts"),
        (["--set", "gateway.enabled=true"], "gateway/parentRefs"),
        (["--set", "storge.size=1Gi"], "storge"),
    ],
)
def test_wrong_values(arguments: list[str], said: str) -> None:
    """What can't work, or is misspelt, is refused before anything is installed."""
    done = helm("template", "nixery", str(CHART), *arguments)
    assert done.returncode != 0
    assert said in done.stderr


def test_names() -> None:
    """Two releases in one namespace share nothing, however long their names are."""
    names = []
    for release in ("a", "nixery-b", "c" * 53):
        done = helm("template", release, str(CHART), "--set", "serviceMonitor.enabled=true")
        assert done.returncode == 0, done.stderr
        made = [each for each in yaml.safe_load_all(done.stdout) if each is not None]
        names += [(each["kind"], each["metadata"]["name"]) for each in made]
        assert all(len(name) <= 63 for _, name in names)
    assert len(names) == len(set(names))


def test_values_are_explained_by_the_schema() -> None:
    """The schema knows every value that there is, and every setting that it speaks of exists."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert schema["properties"].keys() - {"global"} == values.keys()
    for name, value in values.items():
        known = schema["properties"][name].get("properties")
        assert known is None or known.keys() == value.keys()
    own = schema["properties"]["settings"]["propertyNames"]["not"]["enum"]
    assert {name for name in own if name.startswith("NIXERY_")} <= SETTINGS.keys()


def test_one_version() -> None:
    """Chart and container have the project's version."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_manifests_are_made_of_the_chart() -> None:
    """The manifests for kubectl are what the chart renders to: `make manifests` writes them."""
    assert {path.stem for path in KUBERNETES} == MANIFESTS.keys()
    for path in KUBERNETES:
        assert path.read_text("utf-8") == manifest(path.stem)
