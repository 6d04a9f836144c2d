"""Runners of CI systems, and editors, replayed: what they do in containers of ``ci``."""

import base64
from pathlib import Path

import pytest

from tests.e2e import runner_scripts as scripts
from tests.e2e.clients import Docker
from tests.e2e.conftest import Run
from tests.e2e.daemon import Daemon
from tests.e2e.jobs import HOST_USER, NODE, Job, job, lay, mounts, variables
from tests.waiting import HUNG, wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

USERS = pytest.mark.parametrize("user", ["0:0", "1000:1000"])
"""Whom containers run as: most runners say nothing of it, others name one."""


@pytest.fixture(scope="module")
def image(daemon: Daemon, docker: Docker) -> str:
    """The image of the meta-package ``ci``, pulled."""
    name = f"{daemon.host}/ci"
    docker.ok("pull", "-q", name)
    return name


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of the machine, for what containers share with it."""
    folder = tmp_path / "place"
    lay(folder, {})
    return folder


def test_a_stock_node(run: Run) -> None:
    """A program of another distribution that needs libstdc++ runs."""
    options = ("-v", f"{NODE}:/node:ro")
    assert run("ci", "/node", "-e", "1", options=options) == ""
    said = "const me = os.userInfo(); console.log(me.username, me.homedir)"
    assert run("ci", "/node", "-e", said, options=(*options, "-u", "1000")) == "user /home/user\n"
    assert run("user/ci", "/node", "-e", said, options=options) == "user /home/user\n"


# --- GitHub ---

BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")


@USERS
def test_github(docker: Docker, image: str, place: Path, user: str) -> None:
    """GitHub's runner keeps the container of a job running; actions are programs for a node that
    it brings, and call git and tar; steps are scripts for sh or bash."""
    actions = {"_actions/checkout": scripts.CHECKOUT, "_actions/cache": scripts.CACHE}
    origin = {"_temp/0.sh": scripts.MAKE_ORIGIN}
    lay(place, {"project/project": None, "home": None, **actions, **origin})
    work = "/__w/project/project"
    told = {
        **{"HOME": "/github/home", "CI": "true", "GITHUB_ACTIONS": "true"},
        **{"GITHUB_WORKSPACE": work, "GITHUB_OUTPUT": "/__w/_temp/output"},
        "RUNNER_TEMP": "/__w/_temp",
    }
    places = {place: "/__w", place / "home": "/github/home", NODE.parent.parent: "/__e/node18:ro"}
    options = ("-u", user, "-w", work, *variables(told), *mounts(places), "--entrypoint", "tail")
    with job(docker, *options, image, "-f", "/dev/null") as container:
        assert '"PATH=' in docker.ok("inspect", "-f", "{{json .Config.Env}}", container.container)
        # Where this says Alpine, the runner takes a node for musl.
        assert container.exec("sh", "-c", "cat /etc/*release | grep ^ID") == "ID=nixery\n"
        container.exec("sh", "-e", "/__w/_temp/0.sh")
        node = "/__e/node18/bin/node"
        assert container.exec(node, "/__w/_actions/checkout", options=("-i",)) == "subject\n"
        assert container.exec(node, "/__w/_actions/cache", options=("-i",)) == "true kept\n"
        _run_steps(container, place / "_temp")


def _run_steps(container: Job, folder: Path) -> None:
    """Run steps that are scripts; one has a folder of the job's in its PATH."""
    lay(
        folder,
        {
            "1.sh": 'echo "word=said" >> "$GITHUB_OUTPUT"\ncat file\ntouch ~/mine\n',
            "2.sh": "tool | tee found\ngrep -q found found\n",
            "3.sh": "false | true\necho unreached\n",
            "bin/tool": "#!/usr/bin/env bash\necho found\n",
        },
    )
    assert container.exec("sh", "-e", "/__w/_temp/1.sh") == "kept\n"
    assert (folder / "output").read_text() == "word=said\n"
    path = ("-e", "PATH=/__w/_temp/bin:/usr/local/bin:/usr/bin:/bin")
    assert container.exec(*BASH, "/__w/_temp/2.sh", options=path) == "found\n"
    failed = container.docker("exec", container.container, *BASH, "/__w/_temp/3.sh")
    assert (failed.code, failed.output) == (1, "")


# --- GitLab ---


@USERS
def test_gitlab(docker: Docker, image: str, place: Path, user: str) -> None:
    """GitLab's runner clones as root, and gives scripts to the image's shell by standard input,
    as whichever user."""
    run = ("run", "-i", "--rm", "--network=none", *mounts({place: "/builds"}))
    assert docker.ok(*run, image, "sh", "-c", scripts.DETECT, given=scripts.CLONE) == ""
    lay(place, {"group/project": None})
    said = docker.ok(*run, "-u", user, image, "sh", "-c", scripts.DETECT, given=scripts.SCRIPT)
    assert said == "foreign\nsubject\n./artifact\n"


# --- Jenkins ---


@USERS
def test_jenkins(docker: Docker, image: str, place: Path, user: str) -> None:
    """Jenkins keeps ``cat`` running, looks for it from outside, and starts scripts behind its
    own back, whose output and result it reads from files."""
    lay(place, {"control/script.sh": "id -un\nps -o comm= -p 1\nexit 7\n"})
    work = "/var/jenkins_home/workspace/job"
    options = ("-t", "-u", user, "-w", work, *mounts({place: work}))
    with job(docker, *options, image, "cat") as container:
        assert "cat" in docker.ok("top", container.container, "-eo", "pid,comm")
        container.exec("sh", "-c", scripts.LAUNCH, "sh", f"{work}/control")
        wait_until((place / "control" / "result").exists)
        assert (place / "control" / "result").read_text() == "7\n"
        name = {"0:0": "root", "1000:1000": "user"}[user]
        log = f"+ id -un\n{name}\n+ ps -o comm= -p 1\ncat\n+ exit 7\n"
        assert (place / "control" / "log").read_text() == log


# --- Bitbucket ---


def test_bitbucket(docker: Docker, image: str, place: Path) -> None:
    """Bitbucket's runner has a shell wait, and another run scripts that it mounts, as root."""
    agent = "/opt/atlassian/pipelines/agent"
    origin = "git init -q ~/origin && cd ~/origin && git -c user.name=n -c user.email=e@example.com"
    lay(place, {"tmp/build.sh": scripts.BUILD})
    wait = f"mkfifo {agent}/tmp/end && exec cat {agent}/tmp/end"
    options = (*mounts({place: agent}), "--entrypoint", "/bin/sh")
    with job(docker, *options, image, "-c", wait) as container:
        wait_until((place / "tmp" / "end").is_fifo)
        container.exec("sh", "-c", f"{origin} commit -q --allow-empty -m subject")
        script = ("/bin/sh", f"{agent}/tmp/build.sh", "/root/origin")
        assert container.exec(*script) == "subject\nbash\n"
        assert (place / "log").read_text() == "subject\nbash\n"
        assert (place / "artifact.tar.gz").stat().st_size > 0
        container.exec("/bin/sh", "-c", f"echo > {agent}/tmp/end")
        assert docker.ok("wait", container.container) == "0\n"


# --- dev containers ---


@USERS
def test_dev_containers(docker: Docker, image: str, place: Path, user: str) -> None:
    """An editor asks a container's shell for user, home, system and C library, and starts a server
    of its own there, which is a node."""
    options = ("-u", user, *mounts({NODE.parent.parent: "/server:ro"}), "--entrypoint", "/bin/sh")
    with job(docker, *options, image, "-c", scripts.START, "-") as container:
        wait_until(lambda: "started" in docker.ok("logs", container.container))
        home = {"0:0": "/root", "1000:1000": "/home/user"}[user]
        name = {"0:0": "root", "1000:1000": "user"}[user]
        probed = container.exec("/bin/sh", options=("-i",), given=scripts.PROBES)
        known = "user:1000:/home/user:/bin/sh"
        assert probed == f"{home}\nx86_64\n{known}\n1\n{name}\nwritable\n"
        environment = container.exec("/bin/sh", "-lic", "cat /proc/self/environ")
        assert f"HOME={home}" in environment
        versions = container.exec("/bin/sh", options=("-i",), given=scripts.REQUIREMENTS)
        assert versions == "libc.so.6 GLIBC_2\nlibstdc++.so.6 GLIBCXX_3.4\n"
        assert container.exec("/server/bin/node", "-e", scripts.SERVER) == "served\n"
        docker.ok("stop", "-t", str(HUNG), container.container)
        assert docker.ok("wait", container.container) == "0\n"


def test_dev_containers_change_the_user(docker: Docker, image: str, tmp_path: Path) -> None:
    """The number of the ordinary user can be made that of the user of the machine."""
    number = f"{HOST_USER}:{HOST_USER}"
    change = f"s/^(user:[^:]*:)1000:1000/\\1{number}/; s/^(user:[^:]*:)1000/\\1{HOST_USER}/"
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nUSER root\n"
        f"RUN sed -i -E '{change}' /etc/passwd /etc/group"
        f" && chown -R {number} /home/user\nUSER user\n"
    )
    ours = f"{image}-of-ours"
    docker.ok("build", "--network=none", "-q", "-t", ours, str(tmp_path))
    said = docker.run(ours, "sh", "-c", "id -u && touch ~/x && git config --global a.b c")
    assert said == f"{HOST_USER}\n"


# --- Tekton, Woodpecker ---


@pytest.fixture(scope="module")
def static(daemon: Daemon, docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that needs no libraries."""
    image = f"{daemon.host}/dockertools.busybox"
    docker.ok("pull", "-q", image)
    container = docker.ok("create", image, "none").strip()
    path = tmp_path_factory.mktemp("static") / "busybox"
    docker.ok("cp", "-L", f"{container}:/bin/busybox", str(path))
    docker.ok("rm", container)
    return path


def test_tekton(docker: Docker, image: str, place: Path, static: Path) -> None:
    """Tekton brings a static program that starts a step's script, as a user without a shell, in a
    container that writes to nothing but what is mounted."""
    script = "#!/bin/sh\nset -e\nid -un\npwd\ntouch ~/x /workspace/y\nmktemp -d | cut -c 1-9\n"
    lay(place, {"scripts/0": script, "workspace": None, "home": None})
    places = {
        static: "/tekton/bin/busybox:ro",
        place / "scripts": "/tekton/scripts:ro",
        place / "home": "/tekton/home",
        place / "workspace": "/workspace",
    }
    options = (
        *("-u", "65532", "-e", "HOME=/tekton/home", "-w", "/workspace", "--read-only"),
        *("--cap-drop=ALL", "--tmpfs", "/tmp", "--entrypoint", "/tekton/bin/busybox"),
        *mounts(places),
    )
    said = docker.run(image, "env", "STEP=0", "/tekton/scripts/0", options=options)
    assert said == "nonroot\n/workspace\n/tmp/tmp.\n"


def test_woodpecker(run: Run) -> None:
    """Woodpecker and Drone have a script in a variable, for a shell to read."""
    script = base64.b64encode(
        b"set -e\necho + git --version\ngit --version | cut -d. -f1\n"
    ).decode()
    options = ("-e", f"CI_SCRIPT={script}", "--entrypoint", "/bin/sh")
    said = run("ci", "-c", 'echo "$CI_SCRIPT" | base64 -d | /bin/sh -e', options=options)
    assert said == "+ git --version\ngit version 2\n"
