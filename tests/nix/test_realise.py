"""From an image to built packages, with programs in Nix's place that say what tests tell them."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from nixery.interfaces import INix
from nixery.model.build_errors import BuildFailed, BuildTimedOut
from nixery.model.closure import Realisation, Root
from nixery.model.events import BuildStarted, Event, Found, LogLine, Said, Traced
from nixery.model.image import Image, parse_image
from nixery.model.package_errors import EvaluationFailed
from nixery.model.registration import ValidPath
from nixery.model.service_errors import NixUnavailable, StorageFull
from nixery.model.source import Configuration, FolderContents, LocalFolder, PinnedSource
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.gc_roots import KeptRoots
from nixery.nix.git import Git
from nixery.nix.process import Processes
from nixery.nix.realise import Nix, request_for
from nixery.nix.sources import Sources
from tests.storage.places import mounted

reactor: Any = _reactor
EXPRESSIONS = str(Path(__file__).resolve().parents[2] / "nix")
SAMPLES = Path(__file__).parent / "samples"
IMAGE = parse_image("x", "latest")
PINNED = PinnedSource(LocalFolder("/some/set"), FolderContents("/some/set", "1"))
SOURCE = {"type": "path", "path": "/some/set"}
MARK = "@nixery-0@"
X = "/nix/store/" + "a" * 32 + "-x-1.0"
LIBC = "/nix/store/" + "b" * 32 + "-libc-2.0"
_FOUND = "@nix " + json.dumps(
    {
        "action": "msg",
        "level": 0,
        "msg": 'trace: @nixery@{"found":[{"attribute":["X"],"name":"x-1.0","package":"x",'
        f'"others":[],"program":"","about":{{"version":"","description":"","homepage":"","licenses":[],"cpe":"","purls":[]}},"path":"{X}"}}],"library":false}}@nixery@',
    }
)
# Between marks as it is told to.
FOUND = f"""sed "s/@nixery@/$(grep -o '@nixery-[^@]*@' "$0.arguments")/g" >&2 <<'END'
{_FOUND}
END
"""
CLOSURE = json.dumps(
    {X: {"narSize": 2, "references": [X, LIBC]}, LIBC: {"narSize": 1, "references": []}}
)
ROOT = Root("x", "X", X, name="x-1.0")


class Machine:
    """A folder with programs in Nix's place, and the Nix that runs them."""

    def __init__(self, folder: Path, store: str | None = "/chroot", time_limit: int = 600) -> None:
        self.folder = folder
        self.events: list[Event] = []
        environ = {"PATH": f"{folder}:{os.environ['PATH']}"}
        self.processes = Processes(reactor, reactor, environ, grace=0.3)
        commands = Commands(reactor, self.processes, store)
        git = Git(reactor, self.processes, str(folder / "git"))
        sources = Sources(reactor, commands, git, str(folder / "sources"))
        kept = KeptRoots(reactor, commands, str(folder / "kept"), 0)
        evaluator = Evaluator(self.processes, commands, EXPRESSIONS, None)
        self.nix = Nix(reactor, commands, sources, evaluator, str(folder), time_limit, kept)
        self.nix.start()
        self.program("nix-build", FOUND)
        self.program("nix", f"echo '{CLOSURE}'")

    def program(self, name: str, script: str) -> None:
        """Put a program in place that notes its arguments."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$@" > "$0.arguments"\n{script}\n')
        path.chmod(0o755)

    def arguments(self, name: str) -> list[str]:
        return (self.folder / f"{name}.arguments").read_text().splitlines()

    def realise(self, image: Image = IMAGE) -> Deferred[Realisation]:
        return Deferred.fromCoroutine(self.nix.realise(image, PINNED, self.events.append))

    @property
    def guards(self) -> list[str]:
        return os.listdir(self.folder / "roots")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest_twisted.ensureDeferred
async def test_realise(machine: Machine) -> None:
    """The result has the packages and their closure; a guard keeps them until it is released."""
    assert verifyObject(INix, machine.nix)
    realised = await machine.realise()
    assert realised.roots == (ROOT,)
    assert realised.graph == {
        X: {"size": 2, "references": [LIBC]},
        LIBC: {"size": 1, "references": []},
    }
    assert machine.events == [Found("x", "X", "x-1.0")]
    assert machine.guards == [os.path.basename(realised.guard)]
    await machine.nix.release(realised)
    await machine.nix.release(realised)
    assert machine.guards == []


@pytest_twisted.ensureDeferred
async def test_origins(machine: Machine) -> None:
    """The binary cache of a store path is known from its copying on, which may have been for
    another image, or in a run that failed."""
    assert (await machine.realise()).substituted == {}
    copied = {"action": "start", "id": 1, "type": 108, "fields": [LIBC, "https://u:p@cache/?x=y"]}
    machine.program("nix-build", f"echo '@nix {json.dumps(copied)}' >&2; exit 1")
    with pytest.raises(NixUnavailable):
        await machine.realise()
    machine.program("nix-build", FOUND)
    assert (await machine.realise()).substituted == {LIBC: "https://cache/"}


@pytest_twisted.ensureDeferred
async def test_no_roots_any_more(machine: Machine) -> None:
    """Somebody may delete the folder of roots while the daemon runs."""
    (machine.folder / "roots").rmdir()
    realised = await machine.realise()
    assert machine.guards == [os.path.basename(realised.guard)]


@pytest_twisted.ensureDeferred
async def test_names_are_data(machine: Machine) -> None:
    """Nix gets what was asked for as the text of one argument, before ``--`` and the expression,
    which is one text too: Nix may be kept from reading files."""
    await machine.realise()
    arguments = machine.arguments("nix-build")
    place = arguments.index("--argstr")
    assert arguments[place : place + 2] == ["--argstr", "request"]
    request = json.loads(arguments[place + 2])
    assert request == request_for(IMAGE, PINNED, SOURCE, request["mark"])
    assert arguments[place + 3 : place + 5] == ["--expr", "--"]
    assert "findSet = (" in "\n".join(arguments[place + 5 :])
    assert arguments[arguments.index("--timeout") + 1] == "600"
    assert machine.arguments("nix")[-2:] == ["--", X]


@pytest_twisted.ensureDeferred
async def test_marks_are_of_one_run(machine: Machine) -> None:
    """The mark of a run can't be known from another run, nor guessed."""
    marks = set()
    for _ in range(2):
        await machine.realise()
        arguments = machine.arguments("nix-build")
        marks.add(json.loads(arguments[arguments.index("--argstr") + 2])["mark"])
    assert len(marks) == 2
    assert all(len(mark) >= 32 for mark in marks)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("store", "prefix"), [("/chroot", "/chroot"), (None, "")])
async def test_stores(tmp_path: Path, store: str | None, prefix: str) -> None:
    """A store of one's own is named to every program, and its files lie below its folder."""
    machine = Machine(tmp_path, store)
    await machine.realise()
    for name in ("nix-build", "nix"):
        assert ("--store" in machine.arguments(name)) == (store is not None)
    assert machine.nix.physical(X) == prefix + X


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("version", ["2.8", "2.26", "2.34"])
async def test_failed_builds(machine: Machine, version: str) -> None:
    """A failed build is told while it runs, ends in its error, and leaves no guard."""
    sample = SAMPLES / f"build-fail-{version}.ndjson"
    machine.program("nix-build", f"{FOUND} cat {sample} >&2; exit 100")
    with pytest.raises(BuildFailed) as caught:
        await machine.realise()
    assert caught.value.derivation == "broken-1.0"
    assert BuildStarted("broken-1.0") in machine.events
    assert LogLine("broken-1.0", "building") in machine.events
    assert machine.guards == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "script",
    ["echo 'error: no such path' >&2; exit 1", "echo '{'", "echo null", f"echo '{{\"{X}\":null}}'"],
)
async def test_a_store_that_cannot_tell(machine: Machine, script: str) -> None:
    """A closure that can't be had, or read, is Nix's fault, and leaves no guard."""
    machine.program("nix", script)
    with pytest.raises(NixUnavailable):
        await machine.realise()
    assert machine.guards == []


STRAY = "@nix " + json.dumps(
    {"action": "msg", "level": 0, "msg": 'error: no x\n\n  … @nixery@{"stage":"about"}@nixery@'}
)


@pytest_twisted.ensureDeferred
async def test_packages_that_say_nothing_of_themselves(machine: Machine) -> None:
    """Where what packages say of themselves can't be evaluated, they are made without it; what
    is wrong without it too is told."""
    fail = f"{FOUND.replace(_FOUND, STRAY)} exit 1"
    asked = """grep -q '"about":true' "$0.arguments\""""
    machine.program("nix-build", f"if {asked}\nthen {fail}\nfi\n{FOUND}")
    assert (await machine.realise()).roots == (ROOT,)
    assert Said(1, "the image is made without package descriptions (meta)") in machine.events
    machine.program("nix-build", fail)
    with pytest.raises(EvaluationFailed, match="no x"):
        await machine.realise()


REGISTERED = f"{X}\n{'0' * 64}\n2\n/nix/store/{'c' * 32}-x.drv\n2\n{X}\n{LIBC}\n"
REGISTERED += f"{LIBC}\n{'1' * 64}\n1\n\n0\n"


@pytest_twisted.ensureDeferred
async def test_registration(machine: Machine) -> None:
    """The records of a closure in the store's database are read path by path."""
    machine.program("nix-store", f"cat <<'END'\n{REGISTERED}END")
    realised = await machine.realise()
    graph = dict(reversed(list(realised.graph.items())))
    found = await machine.nix.registered(attrs.evolve(realised, graph=graph))
    assert found == [ValidPath(X, "0" * 64, 2, (X, LIBC)), ValidPath(LIBC, "1" * 64, 1, ())]
    assert machine.arguments("nix-store")[-4:] == ["--dump-db", "--", X, LIBC]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", ["exit 1", "true", f"echo {X}", f"cat <<'END'\n{REGISTERED}x"])
async def test_a_registration_that_cannot_be_had(machine: Machine, script: str) -> None:
    """A registration that the store does not tell, or not of all paths, is Nix's fault."""
    machine.program("nix-store", script)
    realised = await machine.realise()
    with pytest.raises(NixUnavailable):
        await machine.nix.registered(realised)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("script", ["exit 0", "kill -9 $$", "exit 1"])
async def test_nix_that_says_nothing(machine: Machine, script: str) -> None:
    """Nix that ends without a word, however it ends, is Nix's fault."""
    machine.program("nix-build", script)
    with pytest.raises(NixUnavailable):
        await machine.realise()
    assert machine.guards == []


@pytest_twisted.ensureDeferred
async def test_nix_that_dies_of_a_time_out(machine: Machine) -> None:
    """A builder that ran out of time is named though a signal ends Nix at once."""
    sample = SAMPLES / "timed-out-2.8.ndjson"
    machine.program("nix-build", f"{FOUND} cat {sample} >&2; kill -ABRT $$")
    with pytest.raises(BuildTimedOut, match=r"hangs-1\.0 did not finish within 3 s"):
        await machine.realise()
    assert machine.guards == []


@pytest_twisted.ensureDeferred
async def test_traces_are_for_the_log(machine: Machine) -> None:
    """The public error of a failed evaluation has no path of this machine; the log has all."""
    text = "error: no '/srv/x.nix'\n\n       at /srv/y.nix:1:2:"
    said = {"action": "msg", "level": 0, "msg": text}
    machine.program("nix-build", f"cat >&2 <<'END'\n@nix {json.dumps(said)}\nEND\nexit 1")
    with pytest.raises(NixUnavailable) as caught:
        await machine.realise()
    assert str(caught.value.public()) == "Nix is not working: no '…/x.nix'"
    assert machine.events == [Said(0, "error: no '…/x.nix'"), Traced(text)]


@pytest_twisted.ensureDeferred
async def test_cancelling(machine: Machine) -> None:
    """Cancelling ends Nix, and leaves no guard."""
    machine.program("nix-build", "echo $$ > \"$0.pid\"; echo '@nix x' >&2; sleep 1000; :")
    running = machine.realise()
    while not machine.events:
        await deferLater(reactor, 0.02, lambda: None)
    pid = int((machine.folder / "nix-build.pid").read_text())
    running.cancel()
    with pytest.raises(CancelledError):
        await running
    await machine.processes.stop()
    assert not psutil.pid_exists(pid)
    assert machine.guards == []


def test_guards_of_the_dead_are_dropped(tmp_path: Path) -> None:
    """At the start, guards of processes that are no more are dropped; others' are kept, and what
    is no guard."""
    uuid = "0" * 32
    kept, full = f"{os.getppid()}.{uuid}", f"{2**22 + 2}.{uuid}"
    for name in (kept, full, f"{os.getpid()}.{uuid}", f"{2**22 + 1}.{uuid}", "website", "12.txt"):
        (tmp_path / "roots" / name).mkdir(parents=True)
    (tmp_path / "roots" / full / "thesis.tex").touch()
    (tmp_path / "roots" / f"{2**22 + 1}.{uuid}" / "root").symlink_to("/nix/store/x")
    assert sorted(Machine(tmp_path).guards) == sorted([kept, full, "website", "12.txt"])
    assert (tmp_path / "roots" / full / "thesis.tex").exists()


@pytest_twisted.ensureDeferred
async def test_one_evaluation_at_a_time(machine: Machine) -> None:
    """Two images of one revision are evaluated one after the other, and built at once."""
    machine.program(
        "nix-build",
        f"echo b >> {machine.folder}/log; sleep 0.2; echo e >> {machine.folder}/log; "
        f'{FOUND} until [ "$(grep -c e {machine.folder}/log)" = 2 ]; do sleep 0.02; done; '
        f"echo d >> {machine.folder}/log",
    )
    for done in [machine.realise(), machine.realise()]:
        await done
    assert "".join((machine.folder / "log").read_text().split()) == "bebedd"


@pytest_twisted.ensureDeferred
async def test_an_evaluation_that_never_ends(tmp_path: Path) -> None:
    """An evaluation has the time that a builder has; then the next one has its turn."""
    machine = Machine(tmp_path, time_limit=3)
    machine.program("nix-build", "sleep 600")
    stuck = machine.realise()
    with pytest.raises(EvaluationFailed, match="within 3 s"):
        await stuck
    assert machine.guards == []
    machine.program("nix-build", f"{FOUND} sleep 3.5")
    assert (await machine.realise()).roots


def test_what_comes_with_ci() -> None:
    """A set may lack what programs that CI systems bring along need besides."""
    packages = request_for(parse_image("ci", "latest"), PINNED, SOURCE, MARK)["packages"]
    optional = [p["name"] for p in packages if p["optional"]]
    assert optional == ["cacert", "iana-etc", "nix-ld", "stdenv.cc.cc.lib"]


def test_what_a_set_is_told() -> None:
    """The operator's configuration reaches the expression as data, beside the request."""
    told = attrs.evolve(PINNED, configuration=Configuration('{"allowUnfree":true}', "/o.nix", "1"))
    request = request_for(IMAGE, told, SOURCE, MARK)
    assert request["configuration"] == {"config": '{"allowUnfree":true}', "overlays": "/o.nix"}
    assert "configuration" not in request_for(IMAGE, PINNED, SOURCE, MARK)


@pytest.mark.parametrize(
    ("name", "optional"),
    [("git", ["cacert", "iana-etc"]), ("cacert/git", ["iana-etc"])],
)
def test_requests(name: str, optional: list[str]) -> None:
    """Packages that come with every image may be missing in a set; named ones may not."""
    packages = request_for(parse_image(name, "latest"), PINNED, SOURCE, MARK)["packages"]
    assert [p["name"] for p in packages if p["optional"]] == optional
    assert [p["name"] for p in packages if not p["optional"]] == name.split("/")


@pytest_twisted.ensureDeferred
async def test_a_full_disk(tmp_path: Path) -> None:
    """Where there is no room for the root that guards a build, that is said; nothing is built."""
    with mounted(tmp_path / "small", "size=1m,nr_inodes=30"):
        machine = Machine(tmp_path / "small")
        with suppress(OSError):
            for number in range(30):
                (machine.folder / f"filler{number}").touch()
        with pytest.raises(StorageFull, match="state folder"):
            await machine.realise()
        assert not (machine.folder / "nix-build.arguments").exists()
