"""Package sets that mean harm: each is refused or made into the right image, nobody of it stays,
and others are served meanwhile."""

import fcntl
import gzip
import io
import os
import re
import signal
import tarfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.daemon import Answer, Daemon, running
from tests.e2e.packages import STORE, PackageSet
from tests.storage.places import mounted
from tests.waiting import wait_until

pytestmark = pytest.mark.real_nix

HURRY = {"NIX_TIMEOUT": "8"}
"""Settings for packages that have to be stopped; others may take their time."""
MEMORY = 120_000_000
"""Bytes that a daemon may grow by, whatever a package does: a file takes less than one kilobyte."""
SHADOW = Path("/etc/shadow").read_bytes() if os.access("/etc/shadow", os.R_OK) else b"root:"


class Place:
    """A daemon with the hostile set, which is watched."""

    def __init__(self, daemon: Daemon, mark: str) -> None:
        self.daemon = daemon
        self.mark = mark
        assert daemon.pull("hello").status == 200
        self._before = self.memory

    @property
    def memory(self) -> int:
        resident: int = psutil.Process(self.daemon.process.pid).memory_info().rss
        return resident

    def pull(self, name: str) -> Answer:
        """Pull an image, while a known one is pulled again and again; all is well afterwards."""
        over = threading.Event()
        with ThreadPoolExecutor(1) as others:
            served = others.submit(self._keep_pulling, over)
            try:
                answer = self.daemon.pull(name)
            finally:
                over.set()
            assert served.result() > 0
        assert self.memory < self._before + MEMORY
        wait_until(lambda: not self.builders(), "of the package's processes some are left")
        wait_until(lambda: not self.supervisors(), "Nix is left")
        assert not self.daemon.failures
        return answer

    def _keep_pulling(self, over: threading.Event) -> int:
        count = 0
        while not over.is_set() or count == 0:
            assert self.daemon.get("/v2/hello/manifests/latest").status == 200
            count += 1
        return count

    def builders(self) -> list[psutil.Process]:
        """Processes that come from builders of the set, whoever their parents are."""
        return [process for process in psutil.process_iter() if self.mark in _environ(process)]

    def supervisors(self) -> list[psutil.Process]:
        """What the daemon has started besides packing processes, and all below."""
        return [
            child for child in self.daemon.children() if "nixery.packing.worker" not in _argv(child)
        ]


def _environ(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return list(process.environ().values())
    return []


def _argv(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


@pytest.fixture(scope="module")
def hostile(
    package_set: PackageSet, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PackageSet, str]:
    """The set, and a mark that its builders have in their environment."""
    mark = uuid.uuid4().hex
    return package_set.with_hostile(tmp_path_factory.mktemp("set"), mark), mark


@pytest.fixture(scope="module")
def place(
    hostile: tuple[PackageSet, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A daemon that serves the set."""
    packages, mark = hostile
    limits = {"NIXERY_MAX_CLOSURE": "1G", "NIXERY_FAILURE_TTL": "1"}
    with running(tmp_path_factory.mktemp("state"), {**packages.environ, **limits}) as daemon:
        yield Place(daemon, mark)


@pytest.fixture(scope="module")
def hurried(
    hostile: tuple[PackageSet, str], place: Place, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A daemon that stops builders and evaluations soon. What ``place`` pulls at its start is
    built by now."""
    packages, mark = hostile
    with running(tmp_path_factory.mktemp("state"), {**packages.environ, **HURRY}) as daemon:
        yield Place(daemon, mark)


REFUSED = [
    ("forgedpath", 400, "has no store path"),
    ("climbingpath", 400, "has no store path"),
    ("refuser", 400, "its builder failed with exit code 3"),
    ("failswithlongwords", 400, "failed to build"),
    ("failswithdaemons", 400, "its builder failed with exit code 3"),
    ("devicefile", 400, "Operation not permitted"),
    ("fifo", 400, "/fifo has an unsupported type"),
    ("socket", 400, "/socket has an unsupported type"),
    ("writable", 400, "suspicious owner or permissions"),
    ("sparse", 400, "this registry allows 1,000,000,000 for an image"),
]


@pytest.mark.parametrize(("name", "status", "words"), REFUSED)
def test_refusals(place: Place, name: str, status: int, words: str) -> None:
    """What can't be an image is refused, and it is said why, but not where anything lies here."""
    answer = place.pull(name)
    assert answer.status == status, answer.body
    [error] = answer.json()["errors"]
    assert words in error["message"]
    assert str(STORE) not in answer.body.decode()


@pytest.mark.parametrize("name", ["endlesstrace", "endlesseval", "endlessoutput", "stubborn"])
def test_time_is_bounded(hurried: Place, name: str) -> None:
    """What never ends is stopped, and it is said why, but not where anything lies here."""
    answer = hurried.pull(name)
    assert answer.status == 400, answer.body
    [error] = answer.json()["errors"]
    assert "did not finish within 8 s" in error["message"]
    assert str(STORE) not in answer.body.decode()


IMAGES = ["leavesdaemons", "forks", "small", "forgedtrace", "longwords", "deep"]


@pytest.mark.parametrize("name", IMAGES)
def test_images(place: Place, name: str) -> None:
    """What can be an image is one, whatever else its builder did."""
    answer = place.pull(name)
    assert answer.status == 200, answer.body
    assert files(place.daemon, name, answer)


def test_a_builder_that_speaks_for_nix(place: Place) -> None:
    """A package whose builder says in Nix's name what was found changes no other package."""
    found = files(place.daemon, "hello/forger", place.pull("hello/forger"))
    assert own(found, "forger")
    assert "-hello-" in found["bin/hello"].linkname


def test_history_is_bounded(hostile: tuple[PackageSet, str], place: Place, tmp_path: Path) -> None:
    """What a builder prints for ever, or a set says, takes no more of the disk than histories may,
    and next to nothing of the log."""
    packages, mark = hostile
    settings = {**HURRY, "NIXERY_HISTORY_SIZE": "1"}
    with running(tmp_path / "state", {**packages.environ, **settings}) as daemon:
        place = Place(daemon, mark)
        assert place.pull("endlessoutput").status == 400
        assert place.pull("endlesstrace").status == 400
        # The place asks for a known image all the time, as fast as it gets it.
        lines = [line for line in daemon.log.splitlines() if "AccessLog" not in line]
        assert sum(map(len, lines)) < 1_000_000
        logs = (STORE / "nix" / "var" / "log").rglob(f"*-endless-output-{mark}*")
        assert not list(logs)
        history = (tmp_path / "state" / "history").rglob("*")
        assert sum(path.stat().st_size for path in history if path.is_file()) < 2_000_000


OUTGROWN = [
    ("hungryeval", "200,000,000 bytes of memory evaluating the package set"),
    (
        "endlessline",
        "200,000,000 bytes of memory building endless-line-{mark}",
    ),
]


@pytest.mark.parametrize(("name", "words"), OUTGROWN)
def test_memory_is_bounded(
    hostile: tuple[PackageSet, str], tmp_path: Path, name: str, words: str
) -> None:
    """A set whose evaluation needs any amount of memory, and a builder that prints a line without
    end, which Nix keeps, are stopped long before their time is up."""
    packages, mark = hostile
    settings = {"NIXERY_NIX_MEMORY": "200000000"}
    with running(tmp_path / "state", {**packages.environ, **settings}) as daemon:
        answer = Place(daemon, mark).pull(name)
        [error] = answer.json()["errors"]
        assert (answer.status, error["detail"]["code"]) == (400, "MEMORY_EXCEEDED")
        assert words.format(mark=mark) in error["message"]


# --- what is in the images ------------------------------------------------------------------


def files(daemon: Daemon, name: str, answer: Answer) -> dict[str, tarfile.TarInfo]:
    """All that is in an image's layers, none of which holds the machine's own secrets."""
    found: dict[str, tarfile.TarInfo] = {}
    for layer in answer.json()["layers"]:
        blob = daemon.get(f"/v2/{name}/blobs/{layer['digest']}").body
        plain = gzip.decompress(blob)
        assert SHADOW not in plain
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            found |= {member.name: member for member in tar}
    for path, member in found.items():
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert member.isdir() or member.isreg() or member.issym()
        in_store = path.startswith("nix/store/")
        assert not in_store or member.issym() or not member.mode & 0o7222, path
    return found


def own(found: dict[str, tarfile.TarInfo], name: str) -> dict[str, tarfile.TarInfo]:
    """What is below the output of a package, by its path in there; the output itself is empty."""
    [output] = [
        path
        for path in found
        if path.startswith("nix/store/")
        and path.count("/") == 2
        and path.partition("-")[2].startswith(f"{name}-")
    ]
    return {
        path.removeprefix(output).removeprefix("/"): member
        for path, member in found.items()
        if path == output or path.startswith(f"{output}/")
    }


def test_links_stay_links(place: Place) -> None:
    """Links out of the store are what they were, and are never followed."""
    answer = place.pull("links")
    found = files(place.daemon, "links", answer)
    targets = {
        path: member.linkname for path, member in own(found, "links").items() if member.issym()
    }
    assert targets == {
        "etc/shadow": "/etc/shadow",
        "share/etc": "/etc",
        "bin/climbing": "../../../../../etc/shadow",
        "root": "/",
        "up": "..",
        "share/top": "../../..",
        "loop": "loop",
        "proc": "/proc/self/root/etc/shadow",
    }


LINKS = [
    ("linktoroot", "link-to-root", "/"),
    ("linktoshadow", "link-to-shadow", "/etc/shadow"),
    ("linkupwards", "link-upwards", "../../etc"),
    ("linktoitself", "link-to-itself", None),
]


@pytest.mark.parametrize(("image", "name", "target"), LINKS)
def test_outputs_that_are_links(place: Place, image: str, name: str, target: str | None) -> None:
    """An output that is a link out of the store, or to itself, brings nothing along."""
    answer = place.pull(image)
    assert answer.status == 200, answer.body
    found = files(place.daemon, image, answer)
    output = own(found, name)
    assert list(output) == [""]
    assert output[""].issym()
    assert target is None or output[""].linkname == target
    usual = files(place.daemon, "small", place.daemon.pull("small"))
    outside = {path for path in found if not path.startswith("nix/")}
    assert outside == {path for path in usual if not path.startswith("nix/")}


def test_an_output_that_is_a_link_to_a_package(place: Place) -> None:
    """An output that is a link to another store path is what that is."""
    answer = place.pull("linktohello")
    found = files(place.daemon, "linktohello", answer)
    assert "bin/hello" in found


def test_set_user_bits(place: Place) -> None:
    """No program in an image runs as another user than who starts it."""
    found = files(place.daemon, "setuid", place.pull("setuid"))
    assert own(found, "set-uid")["bin/suid"].mode == 0o555


def test_names(place: Place) -> None:
    """Names are what they are, byte for byte, however odd or long."""
    found = own(files(place.daemon, "names", place.pull("names")), "names")
    names = {os.fsencode(path) for path in found if "/" not in path} - {b""}
    odd = {b"new\nline", b"tab\there", b"\x1b[31mred", b"\x7f", b"\xff\xfe", b"n" * 255, b"-rf"}
    assert names == {
        *odd,
        *(b"a\\b", b" ", b'"', b"'", b"<script>", b"..."),
        b"d" * 250,
    }
    assert max(map(len, found)) > 3000


def test_many_files(hostile: tuple[PackageSet, str], tmp_path: Path) -> None:
    """A hundred thousand files are a package like any other, which may take its time."""
    packages, mark = hostile
    with running(tmp_path / "state", packages.environ) as daemon:
        answer = Place(daemon, mark).pull("manyfiles")
        found = own(files(daemon, "manyfiles", answer), "many-files")
    assert len([path for path in found if path.startswith("share/many/")]) == 100_000


PROSE = """
{
  html = derivation {
    name = "html-1.0"; system = builtins.currentSystem; builder = "/bin/sh";
    args = [ "-c" "/bin/mkdir $out; exit 0" ];
  } // {
    pname = "<script>alert(1)</script>";
    meta.description = "<img src=x onerror=alert(1)> \\" ' & \x1b[31mred\n\r \x1b]0;title\x07";
    meta.mainProgram = "<script>alert(2)</script>";
  };
}
"""


def test_descriptions(package_set: PackageSet, tmp_path: Path) -> None:
    """What a package says of itself reaches neither a terminal nor a page as anything but text."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "default.nix").write_text(PROSE)
    environ = {**package_set.environ, "NIXERY_PKGS_PATH": str(folder)}
    with running(tmp_path / "state", environ) as daemon:
        assert daemon.pull("html").status == 200

        def ready() -> bool:
            return bool(daemon.get("/packages?q=html").json()["ready"])

        wait_until(ready, "there is no index of the set")
        [found] = daemon.get("/packages?q=html").json()["packages"]
        assert "onerror" in found["description"]
        for path in ("/packages?q=html", "/images/html:latest", "/?q=html"):
            for accept in ("text/html", "*/*"):
                page = daemon.get(path, Accept=accept)
                assert not set(page.body) & {*range(9), *range(11, 32), 127}
                html = "html" in page.headers["Content-Type"]
                assert not html or not re.search(rb"<script>alert|<img src=x", page.body)


# --- where Nix has no sandbox ---------------------------------------------------------------

# On the same store, as the machine's own: Nix lets no builder out of its sandbox elsewhere.
WITHOUT_SANDBOX = """#!/bin/sh
for argument; do
  shift
  case $skip$argument in
    --store) skip=skip ;;
    skip*) skip= ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec unshare --mount sh -c 'mount --bind {store}/nix /nix && exec "$@"' sh \\
  {program} --option sandbox false "$@"
"""


MADE_BY_TESTS = "/nix/made-by-tests"


@contextmanager
def place_for_nix() -> Iterator[None]:
    """A folder /nix for as long as somebody needs one, in this run of the tests or another."""
    top = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(top, fcntl.LOCK_SH)
        if not os.path.exists("/nix"):
            os.makedirs(MADE_BY_TESTS, exist_ok=True)
        yield
        with suppress(BlockingIOError):  # another one needs it, and removes it
            fcntl.flock(top, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(MADE_BY_TESTS):
                os.removedirs(MADE_BY_TESTS)
    finally:
        os.close(top)


@pytest.fixture
def unsandboxed(
    request: pytest.FixtureRequest, package_set: PackageSet, tmp_path: Path
) -> Iterator[Place]:
    """A daemon whose builders have no sandbox, with nothing built yet. Its parameter, if it has
    one, is more settings."""
    mark = uuid.uuid4().hex
    packages = package_set.with_hostile(tmp_path / "set", mark)
    settings = {"NIXERY_FAILURE_TTL": "1", **getattr(request, "param", {})}
    with place_for_nix(), running(tmp_path / "state", {**packages.environ, **settings}) as daemon:
        place = Place(daemon, mark)
        (daemon.shims / "nix-build").write_text(
            WITHOUT_SANDBOX.format(store=STORE, program="/usr/bin/nix-build")
        )
        yield place


def test_daemons_end_with_their_build(unsandboxed: Place) -> None:
    """A builder without a sandbox that starts daemons of its own leaves none, whether it is built
    or fails."""
    assert unsandboxed.pull("leavesdaemons").status == 200
    assert unsandboxed.pull("failswithdaemons").status == 400


@pytest.mark.parametrize("unsandboxed", [HURRY], indirect=True, ids=["hurry"])
def test_daemons_end_when_their_build_is_stopped(place: Place, unsandboxed: Place) -> None:
    """Nor does one that is stopped for its time."""
    assert unsandboxed.pull("stubborn").status == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_outlives_the_daemon(unsandboxed: Place, number: signal.Signals) -> None:
    """A stubborn builder without a sandbox, and what it has started, end with the daemon, however
    that ends."""
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(unsandboxed.daemon.get, "/v2/stubborn/manifests/latest")
        wait_until(lambda: len(unsandboxed.builders()) > 1, "the builder did not start")
        unsandboxed.daemon.stop(number)
        with suppress(Exception):
            asked.result()
    wait_until(lambda: not unsandboxed.builders(), "of the package's processes some are left")


# --- where the store has little room --------------------------------------------------------

# Nothing but what the machine's own shell makes: a store of its own holds these alone.
SMALL = """
let
  build = name: script: derivation {{
    name = "${{name}}-{unique}"; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin"; args = [ "-euc" "${{script}}\nexit 0" ];
  }};
in
{{
  known = build "known" "echo known > $out";
  fills = build "fills" "dd if=/dev/zero of=$out bs=1M";
  later = build "later" "echo later > $out";
}}
"""


def test_a_package_that_fills_the_disk(package_set: PackageSet, tmp_path: Path) -> None:
    """A package that fills the disk of the Nix store is refused, which says so; known images are
    served, and others can be built afterwards."""
    unique = uuid.uuid4().hex
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "default.nix").write_text(SMALL.format(unique=unique))
    with mounted(tmp_path / "small", "size=64m"):
        environ = {
            **package_set.environ,
            "NIXERY_PKGS_PATH": str(folder),
            "NIXERY_NIX_STORE": str(tmp_path / "small" / "store"),
        }
        with running(tmp_path / "state", environ) as daemon:
            assert daemon.pull("known").status == 200
            answer = daemon.pull("fills")
            assert answer.status in (400, 503)
            assert "No space left on device" in answer.body.decode() or "full" in answer.reason
            assert daemon.pull("known").status == 200
            assert daemon.pull("later").status == 200
