"""All packages of a set, by the real Nix, whatever the set holds."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from nixery.model.package_errors import EvaluationFailed
from nixery.model.package_set import Package
from nixery.model.source import FolderContents, LocalFolder, PinnedSource
from nixery.nix.commands import Commands
from nixery.nix.evaluation import Evaluator
from nixery.nix.git import Git
from nixery.nix.isolation import Confinement
from nixery.nix.process import Processes, Surroundings
from nixery.nix.sources import Sources
from nixery.search.indexing import with_programs
from nixery.search.lister import Indexer, ListingLimits, PackageListing
from nixery.search.ranking import Index

reactor: Any = _reactor
EXPRESSIONS = str(Path(__file__).resolve().parents[2] / "nix")
pytestmark = pytest.mark.real_nix

PACKAGE = 'p = name: { type = "derivation"; inherit name; }; '


_started: list[Processes] = []


@pytest_twisted.async_yield_fixture(autouse=True)
async def ended() -> AsyncIterator[None]:
    """The processes of a test end with it: an evaluation may ignore a TERM."""
    yield
    while _started:
        await _started.pop().stop()


def indexer(
    folder: Path, limits: ListingLimits | None = None, confined: Confinement | None = None
) -> Indexer:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(EXPRESSIONS).parent),
        "HOME": str(folder),
        "NIX_CONF_DIR": str(folder),
        "NIX_USER_CONF_FILES": "/dev/null",
        "USER": "tester",
    }
    processes = Processes(reactor, reactor, environ, grace=0.3)
    _started.append(processes)
    commands = Commands(reactor, processes, str(folder / "store"))
    git = Git(reactor, processes, str(folder / "git"))
    sources = Sources(reactor, commands, git, str(folder / "sources"))
    evaluator = Evaluator(processes, commands, EXPRESSIONS, confined)
    return Indexer(reactor, processes, commands, sources, evaluator, limits)


async def listing(
    folder: Path, members: str, limits: ListingLimits | None = None
) -> PackageListing:
    """List a set of these members."""
    written = f"{{ {members} }}" if members.rstrip().endswith(";") else members
    expression = f"let {PACKAGE} many = builtins.genList (i: i); in {written}"
    (folder / "default.nix").write_text(expression, "utf-8")
    pinned = PinnedSource(LocalFolder(str(folder)), FolderContents(str(folder), "1"))
    return await indexer(folder, limits).packages(pinned)


def packages_of(found: PackageListing) -> list[Package]:
    return sorted(Index.load(found.index).all_packages(), key=lambda package: package.path)


def named(found: PackageListing) -> list[str]:
    return [package.attribute for package in packages_of(found)]


@pytest_twisted.ensureDeferred
async def test_fields(tmp_path: Path) -> None:
    """The description of a package is listed."""
    members = """
      hello = p "hello-2.10" // {
        pname = "hello"; version = "2.10"; meta = {
          description = "says hello"; mainProgram = "hi"; homepage = [ "https://a.example" ];
          available = false; license = [ { spdxId = "MIT"; shortName = "mit"; } "own" ];
        };
        outputs = [ "out" "man" 3 ];
      };
    """
    found = await listing(tmp_path, members)
    assert (found.skipped, found.whole) == ((), True)
    assert packages_of(found) == [
        Package(
            path=("hello",),
            image="hello",
            name="hello-2.10",
            pname="hello",
            version="2.10",
            description="says hello",
            homepage="https://a.example",
            program="hi",
            available=False,
            outputs=("out", "man"),
            licences=("MIT", "own"),
        )
    ]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("broken", "ends"),
    [
        ('throw "broken"', False),
        ("assert false; 1", False),
        ('{ type = throw "broken"; }', False),
        ('{ recurseForDerivations = throw "broken"; }', False),
        ('{ recurseForDerivations = 3; x = p "x"; }', False),
        ('"a string"', False),
        ("x: x", False),
        ("[ 1 ]", False),
        ("null", False),
        ("{ }", False),
        ('builtins.abort "broken"', True),
        ("{ }.missing", True),
        ("let x = x; in x", True),
        ("let f = n: 1 + f n; in f 1", True),
        ('1 + "x"', True),
        ("(builtins.head [ ]) 1", True),
        ("import ./missing.nix", True),
        ('builtins.readFile (derivation { name = "i"; system = "x"; builder = "/x"; })', True),
        ('{ type = "derivation"; name = { }.missing; }', True),
        ('{ recurseForDerivations = true; } // builtins.abort "broken"', True),
    ],
)
async def test_one_broken_package(tmp_path: Path, broken: str, ends: bool) -> None:
    """A package that fails in whichever way takes nothing else with it."""
    found = await listing(tmp_path, f'aaa = p "a"; bad = {broken}; zzz = p "z";')
    assert named(found) == ["aaa", "zzz"]
    assert list(found.skipped) == (["bad"] if ends else [])
    assert found.whole


@pytest_twisted.ensureDeferred
async def test_licences(tmp_path: Path) -> None:
    """A licence that can't be evaluated, in whichever way, costs its package no more than that; so
    does one of many that end the evaluation, for which there are not enough runs."""
    licences = {
        "aaa": '"MIT"',
        "abort": 'abort "broken"',
        "ends": "{ }.missing",
        "full": '{ fullName = "Full"; }',
        "many": '[ { spdxId = "A"; } { } { shortName = throw "x"; fullName = "B"; } ]',
        "more": "builtins.genList toString 30",
        "odd": "[ 3 { spdxId = 4; } [ ] ]",
        "throw": 'throw "x"',
    }
    members = [
        f'{name} = p "x" // {{ meta.license = {text}; }};' for name, text in licences.items()
    ]
    found = await listing(tmp_path, " ".join(members))
    known = {package.attribute: package.licences for package in packages_of(found)}
    assert known == {
        **{"aaa": ("MIT",), "abort": (), "ends": (), "full": ("Full",), "many": ("A", "B")},
        **{"more": tuple(map(str, range(20))), "odd": (), "throw": ()},
    }
    assert found.whole
    assert found.skipped == ()
    ending = [f'a{n} = p "x" // {{ meta.license = abort ""; }};' for n in range(9)]
    found = await listing(tmp_path, " ".join(ending), ListingLimits(runs=6))
    assert len(named(found)) == 9
    assert found.whole


@pytest_twisted.ensureDeferred
async def test_outputs(tmp_path: Path) -> None:
    """The outputs of all packages are told, past those that fail in whichever way, which are
    named if they end an evaluation."""
    members = """
      d = name: more: derivation (fixed // { inherit name; } // more);
      fixed = { system = "x86_64-linux"; builder = "/x"; };
      aaa = d "aaa" { };
      aborts = builtins.abort "broken";
      both = d "both" { outputs = [ "out" "dev" ]; };
      depends = d "depends" { dependency = { }.missing; };
      half = aaa // { outputs = [ "out" "none" ]; none = throw "broken"; };
      nested = { recurseForDerivations = true; inner = d "inner" { }; bad = 1 + "x"; };
      odd = p "odd" // { outPath = 3; };
      text = p "text" // { outPath = "no store path"; };
      zzz = d "zzz" { };
    """
    (tmp_path / "default.nix").write_text(f"let {PACKAGE} in rec {{ {members} }}", "utf-8")
    pinned = PinnedSource(LocalFolder(str(tmp_path)), FolderContents(str(tmp_path), "1"))
    found = await indexer(tmp_path).outputs(pinned)
    names = [path[44:] for path in found.paths]
    assert sorted(names) == ["aaa", "both", "both-dev", "inner", "zzz"]
    assert sorted(found.skipped) == ["aborts", "depends", "nested.bad"]
    assert found.whole


@pytest_twisted.ensureDeferred
async def test_many_broken_packages(tmp_path: Path) -> None:
    """Each that ends an evaluation is left out alone, in nested sets too."""
    members = """
      bad1 = abort "1"; ok1 = p "x"; bad2 = abort "2"; bad3 = abort "3";
      set = { recurseForDerivations = true; a = p "a"; b = abort "b"; c = p "c"; };
      z = p "z"; zz = abort "z";
    """
    found = await listing(tmp_path, members)
    assert named(found) == ["ok1", "set.a", "set.c", "z"]
    assert list(found.skipped) == ["bad1", "bad2", "bad3", "set.b", "zz"]
    assert found.whole


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "field",
    [
        *("name = 3;", 'name = throw "x";', "meta = 3;", "meta.description = [ ];"),
        *('meta = throw "x";', "meta.homepage = [ ];", "meta.homepage = [ 1 ];"),
        *("version = { };", "pname = x: x;", "meta.mainProgram = null;"),
        'meta.description = throw "x";',
    ],
)
async def test_wrong_fields(tmp_path: Path, field: str) -> None:
    """A field that fails or is no text is left out; the package is not."""
    found = await listing(tmp_path, f'a = p "a" // {{ {field} }};')
    assert named(found) == ["a"]
    assert packages_of(found)[0].description == packages_of(found)[0].homepage == ""
    assert not found.skipped


@pytest_twisted.ensureDeferred
async def test_long_texts(tmp_path: Path) -> None:
    """Long descriptions are cut where a word ends; long names, and attributes, are left out."""
    words = "größe " * 500
    name = "n" * 1000
    members = f"""
      a = p "{name}" // {{ meta.description = "{words}"; version = "{name}"; }};
      b = p "b" // {{ meta.description = "{name * 3}"; }}; {name} = p "n";
    """
    found = await listing(tmp_path, members)
    assert named(found) == ["a", "b"]
    assert packages_of(found)[0].name == packages_of(found)[0].version == ""
    assert set(packages_of(found)[0].description.split()) == {"größe"}
    assert 900 < len(packages_of(found)[0].description.encode("utf-8")) <= 1000
    assert packages_of(found)[1].description == ""


@pytest_twisted.ensureDeferred
async def test_nested_sets(tmp_path: Path) -> None:
    """Sets that ask for it are looked through, to a depth, where cycles end."""
    members = """let set = {
      loop = { recurseForDerivations = true; inherit (set) loop; deep = p "deep"; };
      other = { hidden = p "hidden"; };
    }; in set"""
    found = await listing(tmp_path, members)
    assert named(found) == ["loop.deep", "loop.loop.deep"]
    assert found.whole


@pytest_twisted.ensureDeferred
async def test_odd_names(tmp_path: Path) -> None:
    """Attribute names are data, whatever they hold."""
    members = r"""
      "a.b" = p "1"; "\"; abort \"" = p "2"; "@nixery@" = p "3"; "é\n" = p "4"; "\${x}" = p "5";
      "  " = abort "x"; "\\" = abort "x"; "é" = abort "é"; "ö" = p "6";
    """
    found = await listing(tmp_path, members)
    assert sorted(package.name for package in packages_of(found)) == ["1", "2", "3", "4", "5", "6"]
    assert len(found.skipped) == 3
    assert {package.image for package in packages_of(found)} == {""}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("expression", ['throw "no set"', "1", '{ a }: throw "x"'])
async def test_no_set(tmp_path: Path, expression: str) -> None:
    """A set that can't be evaluated at all is an error that says why."""
    with pytest.raises(EvaluationFailed):
        await listing(tmp_path, expression)


@pytest_twisted.ensureDeferred
async def test_silence(tmp_path: Path) -> None:
    """An attribute that is evaluated without end is given up, and the next one is not."""
    members = """
      a = p "a";
      busy = builtins.foldl' (a: i: builtins.foldl' (b: j: b + j) a (many 100000)) 0 (many 100000);
      z = p "z";
    """
    found = await listing(tmp_path, members, ListingLimits(silence=1.5))
    assert (named(found), list(found.skipped)) == (["a", "z"], ["busy"])


@pytest_twisted.ensureDeferred
async def test_memory(tmp_path: Path) -> None:
    """An attribute that needs more memory than there may be is given up alone."""
    members = 'a = p "a"; huge = builtins.deepSeq (many 100000000) 1; z = p "z";'
    found = await listing(tmp_path, members, ListingLimits(memory=600_000_000))
    assert (named(found), list(found.skipped)) == (["a", "z"], ["huge"])


@pytest_twisted.ensureDeferred
async def test_limits(tmp_path: Path) -> None:
    """At a limit, the packages so far are listed, as a part of the set."""
    members = "".join(f'bad{n} = abort "x"; ok{n} = p "x";' for n in range(5))
    found = await listing(tmp_path, members, ListingLimits(runs=3))
    assert not found.whole
    assert named(found) == []
    members = 'a = p "a"; b = builtins.foldl\' (a: i: a + i) 0 (many 9000000); c = p "c";'
    assert not (await listing(tmp_path, members, ListingLimits(size=1))).whole


def test_programs(tmp_path: Path) -> None:
    """Programs are those of store paths with the package's name, or of its output for programs."""
    for path, program in (("hello-1", "hello"), ("hello-1", ".wrapped"), ("curl-2-bin", "curl")):
        folder = tmp_path / f"{'a' * 32}-{path}" / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / program).touch()
    (tmp_path / f"{'b' * 32}-file-1").touch()
    names = ["hello-1", "curl-2", "file-1", "hello", ""]
    packages = with_programs([Package((name,), name=name) for name in names], str(tmp_path))
    assert [package.programs for package in packages] == [("hello",), ("curl",), (), (), ()]
    assert with_programs(packages[:1], "/nowhere")[0].programs == ()


@pytest_twisted.ensureDeferred
async def test_programs_again(tmp_path: Path) -> None:
    """An index is made anew if the store holds other programs by now, and only then."""
    found = await listing(tmp_path, 'hello = p "hello-1";')
    assert await indexer(tmp_path).programs(found.index) is None
    folder = tmp_path / "store" / "nix" / "store" / f"{'a' * 32}-hello-1" / "bin"
    folder.mkdir(parents=True)
    (folder / "hi").touch()
    index = await indexer(tmp_path).programs(found.index)
    assert index is not None
    assert [package.programs for package in Index.load(index).search("hi", 1)] == [("hi",)]
    assert await indexer(tmp_path).programs(index) is None


@pytest_twisted.ensureDeferred
async def test_confined(tmp_path: Path) -> None:
    """A set is listed as far as it keeps to its own folder; what lies beside that is not read."""
    (tmp_path / "beside.nix").write_text('{ type = "derivation"; name = "seen"; }')
    folder = tmp_path / "set"
    folder.mkdir()
    text = f"let {PACKAGE} in {{ a = p ''a''; b = import ../beside.nix; c = p ''c''; }}"
    (folder / "default.nix").write_text(text)
    environ = {"PATH": os.environ["PATH"], "USER": "tester", "NIX_CONF_DIR": str(tmp_path)}
    environ |= {"NIX_USER_CONF_FILES": "/dev/null", "HOME": str(tmp_path / "home")}
    programs = {name: str(tmp_path / name) for name in ("evaluating", "fetching", "cache")}
    confined = Confinement(
        uris=(),
        hidden=(str(tmp_path / "home"),),
        own=(programs["cache"], str(tmp_path / "store")),
        shown=(),
        programs=programs["evaluating"],
        cache=programs["cache"],
        fetching=Surroundings({"PATH": f"{programs['fetching']}:{environ['PATH']}"}),
        place=None,
        environ={**environ, "NIX_PATH": "", "PYTHONPATH": str(Path(EXPRESSIONS).parent)},
    )
    pinned = PinnedSource(LocalFolder(str(folder)), FolderContents(str(folder), "1"))
    found = await indexer(tmp_path, None, confined).packages(pinned)
    assert named(found) == ["a", "c"]
    assert found.skipped == ("b",)
