"""Images in use: programs, scripts, users and build files find what they expect."""

import json
import tarfile
from calendar import timegm
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import Run, StartDaemon
from tests.e2e.daemon import Daemon
from tests.ports import free_port
from tests.repository import Repository
from tests.waiting import wait_until


def _get(port: int) -> bytes:
    try:
        with urlopen(f"http://127.0.0.1:{port}/") as answer:
            return bytes(answer.read())
    except OSError:
        return b""


pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]


def test_a_package_is_run_by_its_program(run: Run) -> None:
    """An image of one package starts its only program, if no other command is given; with arguments
    it is named, or made the entry point."""
    assert "Hello" in run("hello")
    assert run("jq", "jq", "--version").startswith("jq-")
    assert run("jq", "--version", options=("--entrypoint", "jq")).startswith("jq-")


def test_time_zones(run: Run) -> None:
    """A zone is known by its name where tzdata is in the image."""
    winter = ("date", "-d", "2026-01-01T12:00:00Z", "+%Z%z")
    assert run("shell/tzdata", *winter, options=("-e", "TZ=Europe/Berlin")) == "CET+0100\n"


def test_programs_are_found_in_usr_bin(run: Run) -> None:
    """Every program of /bin is in /usr/bin too."""
    assert run("shell/git", "/usr/bin/mkfifo", "/tmp/x") == ""


def test_scripts_find_their_interpreter(run: Run, tmp_path: Path) -> None:
    """A script that begins with a distribution's path of an interpreter runs."""
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/python3\nprint('it runs')\n")
    script.chmod(0o755)
    assert run("python3", "/script", options=("-v", f"{script}:/script:ro")) == "it runs\n"


def test_programs_of_a_distribution(run: Run) -> None:
    """A program that Nix did not make runs with the image's C library."""
    assert run("shell", "/foreign", "true", options=("-v", "/usr/bin/env:/foreign:ro")) == ""


def test_the_locale_knows_utf8(run: Run) -> None:
    """Two bytes of UTF-8 are one character, and the user's own locale wins."""
    count = ("bash", "-c", "printf '\\303\\251' | wc -m")
    assert run("shell", *count) == "1\n"
    assert run("shell", *count, options=("-e", "LC_ALL=C")) == "2\n"


def test_tmux_starts(run: Run) -> None:
    """tmux, which wants a UTF-8 locale, starts a session."""
    script = "tmux new-session -d 'sleep 1000' && tmux list-sessions"
    output = run("shell/tmux", "bash", "-c", script, options=("-t", "-e", "TERM=xterm"))
    assert "1 windows" in output


def test_unprivileged_users_have_a_name_and_a_home(run: Run) -> None:
    """git works in the home of user 1000, and ssh knows who it is."""
    user = ("-u", "1000")
    script = (
        "cd ~ && git init -q x && cd x && git -c user.name=n -c user.email=e@example.com "
        "commit -q --allow-empty -m x && git log --format=%s && whoami"
    )
    assert run("shell/git/openssh", "bash", "-c", script, options=user) == "x\nuser\n"
    ssh = "ssh -o BatchMode=yes -p 9 127.0.0.1 2>&1 || true"
    assert "refused" in run("shell/git/openssh", "bash", "-c", ssh, options=user)


def test_build_files_extend_an_image(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    """A tool that a Dockerfile copies to /usr/local/bin or /usr/bin is found by its name."""
    image = f"{daemon.host}/shell/git"
    docker.ok("pull", "-q", image)
    for name in ("tool", "other"):
        (tmp_path / name).write_text("#!/bin/sh\necho found\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\nCOPY tool /usr/local/bin/tool\nCOPY other /usr/bin/other\n"
        'RUN /bin/true\nCMD ["tool"]\n'
    )
    built = f"{daemon.host}/extended"
    docker.ok("build", "--network=none", "-q", "-t", built, str(tmp_path))
    assert docker.run(built) == "found\n"
    assert docker.run(built, "other") == "found\n"
    assert "git version" in docker.run(built, "git", "--version")


def test_arm64_images_have_the_same_files(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    """An image for ARM has the same files, with that architecture's loader at its place."""
    names = {}
    for platform, name in {"linux/amd64": "shell", "linux/arm64": "arm64/shell"}.items():
        image, exported = f"{daemon.host}/{name}", str(tmp_path / "exported")
        docker.ok("pull", "-q", f"--platform={platform}", image)
        container = docker.ok("create", f"--platform={platform}", image).split()[-1]
        docker.ok("export", "-o", exported, container)
        with tarfile.open(exported) as tar:
            names[platform] = set(tar.getnames())
        if platform == "linux/arm64":
            loader = f"{container}:/lib/ld-linux-aarch64.so.1"
            docker.ok("cp", "-L", loader, str(tmp_path / "loader"))
        docker.ok("rm", container)
    assert (tmp_path / "loader").read_bytes()[18] == 183  # EM_AARCH64
    libraries = {
        "aarch64-linux-gnu/libc.so.6",
        "ld-linux-aarch64.so.1",
        "libc.so.6",
        "locale/C.utf8",
    }
    assert {f"lib/{each}" for each in libraries} < names["linux/arm64"]
    # Libraries have names of their own on each.
    own = ("nix/", "lib/", "lib64", "share/")
    amd64, arm64 = ({n for n in each if not n.startswith(own)} for each in names.values())
    assert amd64 == arm64
    assert {"etc/passwd", "home/user", "usr/bin", "bin/sh"} < arm64


def test_the_environment_is_what_the_image_has(daemon: Daemon, docker: Docker) -> None:
    """Variables name what is there: certificates, locale; the path is that of engines."""
    image = f"{daemon.host}/shell"
    docker.ok("pull", "-q", image)
    environment = json.loads(docker.ok("inspect", image))[0]["Config"]["Env"]
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in environment
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" in environment
    assert "LANG=C.UTF-8" in environment


def test_the_outputs_that_a_package_is_installed_with(run: Run) -> None:
    """All outputs of ``meta.outputsToInstall`` are in the image, and no others."""
    assert run("shell/installstwo", "cat", "/usr/share/man/man1/two.1") == "manual\n"


def test_the_main_program_is_run(run: Run) -> None:
    """Of several programs of a package, its ``meta.mainProgram`` is the command."""
    assert run("namesitsprogram") == "this is other\n"


def test_two_names_of_one_derivation(run: Run) -> None:
    """Attributes that differ in case alone, but are one derivation, are one package."""
    assert "Hello" in run("twicenamed")


def test_names_that_differ_in_case(run: Run) -> None:
    """Where it matters which is meant, capital letters are told by their numbers."""
    assert "Hello" in run("ambiguouspkg--10")
    assert run("ambiguouspkg--10-11-12", "bash", "-c", "echo bash") == "bash\n"


def test_a_service_runs_as_it_says(daemon: Daemon, docker: Docker) -> None:
    """A package's ``passthru.image`` makes an image that ``docker run`` starts as a service."""
    image, port = f"{daemon.host}/service", free_port()
    docker.ok("pull", "-q", image)
    config = json.loads(docker.ok("inspect", image))[0]["Config"]
    assert config["Entrypoint"] == ["/bin/service"]
    assert config["ExposedPorts"] == {"53/udp": {}, "8080/tcp": {}}
    assert config["Volumes"] == {"/srv/data": {}}
    labels = config["Labels"]
    assert labels["org.example.team"] == "web"
    assert labels["org.opencontainers.image.title"] == "A service"
    container = docker.ok("run", "-d", "--network=host", image, str(port)).strip()
    try:
        wait_until(lambda: _get(port) == b"it serves\n")
        facts = json.loads(docker.ok("inspect", container))[0]["Config"]
        assert (facts["User"], facts["WorkingDir"]) == ("1000:1000", "/srv")
        assert {"GREETING=hello", "LANG=C"} <= set(facts["Env"])
    finally:
        docker.ok("rm", "-f", container)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wrongservice", "wrongService.passthru.image has the unknown attribute 'entrypiont'"),
        ("strayservice", "strayService.passthru.image refers to jq-"),
    ],
)
def test_what_a_package_says_wrong(daemon: Daemon, docker: Docker, name: str, words: str) -> None:
    """A ``passthru.image`` that is not what it should be is refused, and named."""
    refused = docker("pull", f"{daemon.host}/{name}")
    assert refused.code != 0
    assert words in refused.output


A_LIST = "must be a list of strings"


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        *(
            (f"says.{name}", 400, f"says.{said}.passthru.image{words}")
            for name, said, words in (
                ("atext", "aText", " must be a set"),
                ("alist", "aList", " must be a set"),
                ("anumber", "aNumber", " must be a set"),
                ("atextforalist", "aTextForAList", f".entrypoint {A_LIST}"),
                ("anumberinalist", "aNumberInAList", f".cmd {A_LIST}"),
                ("avariable", "aVariable", ".env must be a set of strings, by the names of"),
                ("aport", "aPort", ".exposedPorts must be a list of ports"),
                ("auser", "aUser", ".user must be a user's name or number"),
                ("afolder", "aFolder", ".workingDir must be an absolute path"),
                ("alabel", "aLabel", ".labels must be a set of strings"),
                ("avolume", "aVolume", ".volumes must be a list of absolute paths"),
                ("afile", "aFile", ".files must be a set of absolute paths"),
                ("amode", "aMode", ".files must be a set of absolute paths"),
            )
        ),
        (
            "says.afunctioninalist",
            400,
            "evaluated: says.afunctioninalist: cannot convert a function",
        ),
        ("says.itself", 400, "evaluated: says.itself: it says nothing"),
        ("says.nothing", 400, "evaluated: says.nothing: it says nothing at all"),
        ("oddpackages.lost", 400, "evaluated: oddpackages.lost: Python 2 is gone"),
        ("oddpackages.failing", 400, "evaluated: oddpackages.failing: Package"),
        ("oddpackages.unbuildable", 400, "evaluated: oddpackages.unbuildable: Python 1 is gone"),
        ("python3packages.sixx", 404, "did you mean python3packages.six?"),
        (
            "python3packages.six/oddpackages.foreign",
            400,
            "oddpackages.foreign is for a different python than python3packages.six",
        ),
        (
            "otherpython/python3packages.six",
            400,
            "python3packages.six is for a different python than otherpython",
        ),
    ],
)
def test_what_no_image_can_be_made_of(daemon: Daemon, name: str, status: int, words: str) -> None:
    """What a package says wrong, a library without its interpreter or of another one, and what
    can't be evaluated is refused by the attribute's name."""
    answer = daemon.pull(name)
    assert answer.status == status
    assert words in str(answer.json()["errors"][0]["message"])


@pytest.mark.parametrize(
    "name", ["says.afunction", "says.apackage", "oddpackages.application", "python3/otherpython"]
)
def test_what_only_looks_wrong(daemon: Daemon, name: str) -> None:
    """What goes by the name of what is said of images, and is no data, is not meant; a program that
    happens to be written in Python is no library; interpreters may stand beside each other."""
    assert daemon.pull(name).status == 200


def test_what_packages_take_from_the_system(daemon: Daemon) -> None:
    """A package's own users and os-release win over the image's, its devices do not; the build's
    page tells both."""
    assert daemon.pull("bringssystemfolders").status == 200
    [build] = (b for b in daemon.get("/builds").json() if b["name"] == "bringssystemfolders")
    collided = daemon.get(f"/builds/{build['id']}").json()["collided"]["first"]
    told = {each["name"]: each["kept"] for each in collided}
    assert told == {
        **dict.fromkeys(("etc/passwd", "etc/os-release"), "bringssystemfolders"),
        **dict.fromkeys(("dev", "nix", "tmp"), "the system"),
    }
    page = daemon.get(f"/builds/{build['id']}", Accept="text/html").body.decode()
    assert "/etc/passwd" in page


def test_ci_has_what_runners_call(run: Run) -> None:
    """The meta-package ``ci`` has the programs that CI systems call in containers of jobs, and a
    user with a name."""
    called = "bash grep sed awk find tar gzip xz which ps getent diff curl git id uname tail cat"
    script = f"for each in {called}; do command -v $each > /dev/null || echo no $each; done"
    assert run("ci", "sh", "-c", script) == ""
    output = run("ci", "sh", "-c", "ps -p 1 -o comm=; getent passwd 1000 | cut -d: -f1,6")
    assert output == "sh\nuser:/home/user\n"


def test_ci_runs_programs_that_need_libraries_of_compilers(run: Run) -> None:
    """A program of a distribution that needs libstdc++ runs in ``ci``."""
    apt = ("-v", "/usr/bin/patchelf:/foreign:ro")
    assert "patchelf" in run("ci", "/foreign", "--version", options=apt)


def test_user_is_an_ordinary_user(run: Run) -> None:
    """With the meta-package ``user`` containers run as user 1000, who can write to its home."""
    script = "id -un; pwd; echo x > x && cat x"
    assert run("user/shell", "sh", "-c", script) == "user\n/home/user\nx\n"


SIX = ("python3", "-c", "import six; print(six.__name__)")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("shell/python3/python3packages.six", SIX),
        ("python3packages.six", SIX),
        ("plainpackages.six", SIX),
        ("shell/perl/perlpackages.error", ("perl", "-MError", "-e", "print qq(six\\n)")),
        ("perlpackages.error", ("perl", "-MError", "-e", "print qq(six\\n)")),
    ],
)
def test_interpreters_find_their_libraries(run: Run, name: str, command: tuple[str, ...]) -> None:
    """Libraries that are named, with their interpreter or alone, can be imported, whether the set
    makes environments or not."""
    assert run(name, *command) == "six\n"


def test_what_the_user_sets_counts_besides(run: Run, tmp_path: Path) -> None:
    """A module in the user's own PYTHONPATH is found beside the image's libraries."""
    (tmp_path / "own.py").write_text("name = 'own'\n")
    options = ("-e", "PYTHONPATH=/own", "-v", f"{tmp_path}:/own:ro")
    command = ("python3", "-c", "import own, six; print(own.name)")
    assert run("shell/python3/python3packages.six", *command, options=options) == "own\n"


def test_an_image_names_itself_and_its_source(run: Run, daemon: Daemon) -> None:
    """/etc/os-release, which shells can read, has the image's name and the source's revision, and
    is found in /usr/lib too."""
    revision = daemon.pull("shell/git").headers["Nixery-Revision"]
    script = '. /etc/os-release; echo "$ID, $NAME, $VERSION_ID, $BUILD_ID, $VARIANT"'
    assert run("shell/git", "sh", "-c", script) == (
        f"nixery, Nixery, {revision}, {revision}, shell/git\n"
    )
    text = run("shell/git", "cat", "/etc/os-release")
    assert run("shell/git", "cat", "/usr/lib/os-release") == text
    assert "HOME_URL" not in text  # a folder is nowhere to be found


def test_a_package_may_name_the_system(run: Run, daemon: Daemon) -> None:
    """A package's own /etc/os-release is there instead, and the build's log says so."""
    name = "shell/bringssystemfolders"
    assert run(name, "cat", "/etc/os-release") == 'NAME="from a package"\n'
    (build,) = (b["id"] for b in daemon.get("/builds").json() if b["name"] == name)
    log = daemon.get(f"/builds/{build}/log").body.decode()
    assert "/etc/os-release is from bringssystemfolders, not from the system" in log


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (
            "described",
            {
                "title": "described",
                "version": "1.0",
                "description": "a package that says what it is",
                "url": "https://example.com/described",
                "licenses": "LicenseRef-unfree AND MIT",
            },
        ),
        ("oddlydescribed", {"title": "oddlydescribed", "licenses": "LicenseRef-Our-own"}),
        ("straysayings.homepage", {"title": "straysayings.homepage"}),
    ],
)
def test_labels(daemon: Daemon, docker: Docker, name: str, known: dict[str, str]) -> None:
    """An image has the labels of the OCI specification, as far as their values are known; its
    manifest has them as annotations."""
    image = f"{daemon.host}/{name}"
    docker.ok("pull", "-q", image)
    manifest = daemon.pull(name)
    known = {**known, "revision": manifest.headers["Nixery-Revision"]}
    expected = {f"org.opencontainers.image.{label}": text for label, text in known.items()}
    assert json.loads(docker.ok("inspect", image))[0]["Config"]["Labels"] == expected
    assert manifest.json()["annotations"] == expected


def test_images_as_old_as_their_revision(
    start_daemon: StartDaemon, docker: Docker, tmp_path: Path
) -> None:
    """With the setting on, an image of a new revision survives that old images are pruned; one of
    an old revision does not. They share all layers but the one that names the revision."""
    repository = Repository(tmp_path / "repository")
    for tag, when in (("old", timegm((2020, 1, 1, 0, 0, 0))), ("new", None)):
        repository.commit("import <tests/test-pkgs>", when)
        repository.git("tag", tag)
    settings = {"NIXERY_PKGS_PATH": "", "NIXERY_PKGS_REPO": repository.url}
    daemon = start_daemon(NIXERY_CREATED="commit", **settings)
    old, new = (daemon.pull("shell", tag).json()["layers"] for tag in ("old", "new"))
    assert old[:-1] == new[:-1]
    assert old[-1] != new[-1]
    images = {tag: f"{daemon.host}/shell:{tag}" for tag in ("old", "new")}
    for image in images.values():
        docker.ok("pull", "-q", image)
    ours = "--filter=label=org.opencontainers.image.title=shell"
    docker.ok("image", "prune", "--all", "--force", "--filter=until=24h", ours)
    assert docker("image", "inspect", images["old"]).code != 0
    (kept,) = json.loads(docker.ok("image", "inspect", images["new"]))
    revision = repository.git("rev-parse", "new")
    assert kept["Config"]["Labels"]["org.opencontainers.image.revision"] == revision
    assert revision in docker.run(images["new"], "cat", "/etc/os-release")


def test_libraries_of_another_interpreter(daemon: Daemon, docker: Docker) -> None:
    """A library beside an interpreter that it is not for is refused, and both are named."""
    refused = docker("pull", f"{daemon.host}/otherpython/python3packages.six")
    assert refused.code != 0
    assert "python3packages.six" in refused.output
    assert "otherpython" in refused.output
