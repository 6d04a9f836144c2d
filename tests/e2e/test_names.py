"""What people read who name something that can't be had, and what they might have meant."""

from collections.abc import Iterator

import pytest

from tests.e2e.clients import Docker, Podman, run
from tests.e2e.daemon import Daemon, running
from tests.e2e.packages import PackageSet
from tests.waiting import wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

SET = """
{{ system ? builtins.currentSystem }}:
let
  real = import {set} {{ inherit system; }};
  inherit (real) hello jq;
in
removeAttrs real [ "wget" ] // {{
  "a.b" = hello;
  inner = {{ recurseForDerivations = true; "c.d" = hello; }};
  "with+plus" = hello;
  "@scope" = hello;
  "with/slash" = hello;
  "with space" = hello;
  shell = hello;
  ci = hello;
  User = hello;
  "x--1" = hello;
  X = jq;
  "y--1" = hello;
}}
"""


@pytest.fixture(scope="module")
def daemon(package_set: PackageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a set of odd names, in whose store procps is."""
    folder = tmp_path_factory.mktemp("set")
    (folder / "default.nix").write_text(SET.format(set=package_set.folder))
    # What failed is remembered for longer than an index is made, on whatever machine.
    settings = {"NIXERY_PKGS_PATH": str(folder), "NIXERY_FAILURE_TTL": "3600"}
    environ = {**package_set.environ, **settings}
    with running(tmp_path_factory.mktemp("state"), environ) as daemon:
        assert daemon.pull("procps").status == 200
        yield daemon


def message(daemon: Daemon, name: str) -> str:
    return str(daemon.pull(name).json()["errors"][0]["message"])


MEANT = {
    "rg": "did you mean ripgrep (it has the program rg)?",
    "ps": "did you mean procps (it has the program ps)?",
    "six": "did you mean plainpackages.six or python3packages.six?",
    "pythonpackages.six": "did you mean plainpackages.six or python3packages.six?",
    "htpo": "did you mean htop?",
}


@pytest.fixture(scope="module")
def informed(daemon: Daemon) -> Daemon:
    """The daemon, once it has an index."""
    wait_until(lambda: "did you mean" in message(daemon, "rg"))
    return daemon


def test_a_refusal_has_the_index_made(daemon: Daemon) -> None:
    """The first names that no package has get no hint from an index, which is made then, and not
    by the builds: a failure that is remembered is told with what is known now."""
    begun = daemon.nix_builds
    wait_until(lambda: MEANT["rg"] in message(daemon, "rg"))
    assert daemon.nix_builds == begun + 1


@pytest.mark.parametrize("name", MEANT)
def test_what_was_meant(informed: Daemon, docker: Docker, name: str) -> None:
    """docker prints which package has a program of the name, or is called so in a nested set."""
    refused = docker("pull", f"{informed.host}/{name}")
    assert refused.code != 0
    assert MEANT[name] in refused.output


def test_nothing_far_fetched(informed: Daemon, docker: Docker) -> None:
    """Nothing is suggested for what is like nothing."""
    refused = docker("pull", f"{informed.host}/wget")
    assert "there is no package 'wget' in this package set; see http" in refused.output


def test_other_clients(informed: Daemon, docker: Docker, podman: Podman) -> None:
    """podman, skopeo and containerd print the hint, and containerd the whole address behind it."""
    image = f"{informed.host}/rg"
    for ran in (
        podman("pull", "--tls-verify=false", image),
        run(["skopeo", "inspect", "--tls-verify=false", f"docker://{image}"]),
        docker.ctr("images", "pull", "--plain-http", f"{image}:latest"),
    ):
        assert ran.code != 0
        assert MEANT["rg"] in ran.output
    build = informed.get("/builds").json()[0]["id"]
    assert f"see http://{informed.host}/builds/" in ran.output
    assert len(build) == len(ran.output.partition("/builds/")[2].split()[0].strip(',:;"'))


def test_the_page_of_a_build_has_the_hint(informed: Daemon) -> None:
    """The page that the refusal leads to says the same."""
    build = message(informed, "ps").rpartition("/")[2]
    page = informed.get(f"/builds/{build}", Accept="text/html").body.decode()
    assert MEANT["ps"] in page


@pytest.mark.parametrize(("name", "attribute"), [("a.b", '"a.b"'), ("inner.c.d", 'inner."c.d"')])
def test_attributes_with_dots(informed: Daemon, docker: Docker, name: str, attribute: str) -> None:
    """An attribute with a dot in its name can't be asked for, and the refusal says so."""
    refused = docker("pull", f"{informed.host}/{name}")
    assert f"the attribute {attribute} has a dot in its own name" in refused.output
    assert "did you mean" not in refused.output


def test_attributes_that_no_image_can_name(informed: Daemon) -> None:
    """What has other characters than names have is refused as a name, and never suggested."""
    for name in ("with+plus", "@scope", "with%20space"):
        answer = informed.pull(name)
        assert answer.status == 400
        assert "is not a valid package name (registries allow" in answer.body.decode()
    for name in ("with-plus", "with/slash", "scope"):
        assert "did you mean" not in message(informed, name)


def test_attributes_by_the_names_of_meta_packages(informed: Daemon) -> None:
    """Names of meta-packages mean these; an attribute of another case has a spelling."""
    assert "the meta-package 'shell' must come before packages" in message(informed, "jq/shell")
    assert informed.pull("user--1").status == 200
    assert informed.pull("ci").status == 200


def test_attributes_that_look_like_a_spelling(informed: Daemon) -> None:
    """What a set calls so comes before what it would spell."""
    names = {"x--1": "hello", "x": "jq", "y--1": "hello"}
    for name in names:
        assert informed.pull(name).status == 200
    builds = {head["name"]: head["id"] for head in informed.get("/builds").json()}
    for name, package in names.items():
        (found,) = (
            each
            for each in informed.get(f"/builds/{builds[name]}").json()["packages"]
            if each["package"] == name
        )
        assert found["name"].startswith(f"{package}-")
