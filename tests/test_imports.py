"""The house rules that a machine can check."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
PACKAGE = TOP / "nixery"

# Floors, from the ground; a module may import what is below it, and its own floor.
FLOORS: dict[str, set[str]] = {
    "model": set(),
    "interfaces": {"model"},
    "coalesce": {"model"},
    "recent": set(),
    "repeats": {"recent"},
    "slots": set(),
    "state_folder": set(),
    "reactor": set(),
    "inotify": set(),
    "ownership": {"reactor", "whole_file"},
    "url_credentials": set(),
    "whole_file": set(),
    "nix": {
        *("reactor", "model", "interfaces", "coalesce", "recent", "repeats", "slots"),
        *("inotify", "url_credentials", "whole_file"),
    },
    "child_python": set(),
    "packing": {"reactor", "model", "interfaces", "child_python"},
    "storage": {
        *("reactor", "model", "interfaces", "coalesce", "recent", "repeats", "whole_file"),
        "inotify",
    },
    "access": {"reactor", "model", "coalesce", "recent", "slots", "lifecycle", "state_folder"},
    "attest": {"model"},
    "history": {"reactor", "model", "interfaces", "coalesce", "recent", "whole_file"},
    "search": {"reactor", "model", "interfaces", "coalesce", "recent", "nix", "whole_file"},
    "builds": {
        *("model", "interfaces", "coalesce", "recent", "nix", "packing", "storage", "history"),
        *("attest", "reactor", "repeats", "search", "slots", "whole_file"),
    },
    "watching": {
        *("reactor", "model", "interfaces", "lifecycle", "repeats", "history", "url_credentials"),
        "storage",
    },
    "http": {"reactor", "model", "interfaces", "repeats", "recent", "access", "serving"},
    "web": {
        "attest",
        *("model", "interfaces", "repeats", "builds", "access", "watching", "http", "history"),
        *("search", "reactor", "recent", "requirements"),
    },
    "serving": {"model", "lifecycle", "child_python"},
    "values": {"model"},
    "setting_groups": {"model", "packing", "values"},
    "unknown": {"model"},
    "help": {"model", "settings"},
    "requirements": set(),
    "plugin": {"requirements", "tap", ""},
    "cli": {
        *("model", "search", "history", "web", "settings", "nix_parts", "requirements", "unknown"),
        "state_folder",
    },
    "other_registry": {"model", "storage"},
    "verifying": {"builds", "nix", "packing", "setting_groups", "starts", "other_registry"},
    "terminal": set(),
    "first_success": {"reactor", "coalesce"},
    "first_look": {"reactor", "model", "nix", "first_success", "watching"},
    "systemd": {"repeats"},
    "descriptors": {"model"},
    "lifecycle": set(),
    "starts": set(),
    "trimmer": {"reactor", "lifecycle"},
    "settings": {"model", "setting_groups", "state_folder", "unknown"},
    "nix_parts": {"model", "interfaces", "nix", "settings", "setting_groups", "starts"},
    "describing": {"model", "nix", "settings", "nix_parts", "requirements", "unknown"},
    "image_parts": {"attest", "builds", "interfaces", "model", "settings"},
    "stores": {"storage", "settings", "setting_groups"},
    "checking": {
        *("model", "access", "nix", "http", "settings", "nix_parts", "stores", "describing"),
        *("ownership", "attest"),
    },
    "service": {"model", "lifecycle", "systemd", "http", "terminal"},
    "daemon": {
        *("model", "interfaces", "nix", "packing", "storage", "builds", "access", "history"),
        *("search", "http", "web", "watching", "settings", "nix_parts", "service", "lifecycle"),
        *("ownership", "trimmer", "starts", "first_look", "terminal", "reactor", "requirements"),
        *("serving", "attest"),
        *("stores", "verifying", "image_parts"),
    },
    "tap": {
        *("http", "web", "settings", "daemon", "watching", "systemd", "descriptors"),
        *("checking", "describing", "help", "requirements", "terminal", "unknown"),
        "",
    },
}
# What rules have no use for: time, the network, processes, files, randomness.
IMPURE = {
    *("asyncio", "io", "pathlib", "random", "shutil", "socket", "subprocess", "tempfile"),
    *("threading", "time", "twisted", "urllib", "uuid"),
}

# Names of modules that gather what belongs elsewhere.
GRAB_BAGS = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "tools"}
# All that the model may do with the operating system's module: text to bytes and names.
OF_OS = {"fsencode", "fsdecode", "path"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def floor_of(module: str) -> str:
    """``nixery.builds.cache`` → ``builds``."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_imports_go_downward(path: Path) -> None:
    """No module imports from a floor above its own, or from a neighbour."""
    floor = floor_of(".".join(path.relative_to(TOP).with_suffix("").parts))
    allowed = {floor, *FLOORS.get(floor, set())}
    ours = [name for name in imports(path) if name.split(".")[0] == "nixery"]
    assert [name for name in ours if floor_of(name) not in allowed] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").glob("*.py")), ids=lambda p: p.name)
def test_rules_are_pure(path: Path) -> None:
    """The model knows neither Twisted nor the outside world."""
    assert {name.split(".")[0] for name in imports(path)} & IMPURE == set()
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    assert not [name for name in imports(path) if name.startswith("os.")]
    used = {n.attr for n in nodes if isinstance(n, ast.Attribute) and is_name(n.value, "os")}
    assert used <= OF_OS
    assert not [n for n in nodes if isinstance(n, ast.Call) and is_name(n.func, "open")]


def is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_every_module_has_its_floor(path: Path) -> None:
    """Every module lies on a floor of the house, and none is named for holding just anything."""
    floor = floor_of(".".join(path.relative_to(TOP).with_suffix("").parts))
    assert floor in FLOORS or path == PACKAGE / "__init__.py"
    assert path.stem not in GRAB_BAGS


def test_packing_processes_know_no_twisted() -> None:
    """What a packing process imports, directly or not, is neither Twisted nor a floor above."""
    script = "import nixery.packing.worker, sys; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout
    loaded = set(printed.split())
    assert "nixery.packing.worker" in loaded
    assert "twisted" not in loaded
    ours = {floor_of(name) for name in loaded if name.startswith("nixery.")}
    assert ours <= {"packing", "model"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_one_place_knows_the_reactor(path: Path) -> None:
    """Nothing but ``tap.py`` imports the global reactor."""
    if path.name != "tap.py":
        assert "twisted.internet.reactor" not in set(imports(path))


def test_no_code_in_package_files() -> None:
    """``__init__.py`` files are empty, and there is none beside the plugin."""
    assert all(path.read_bytes() == b"" for path in PACKAGE.rglob("__init__.py"))
    assert not (TOP / "twisted" / "plugins" / "__init__.py").exists()


def test_names_are_unique() -> None:
    """No two modules have one name, and no two classes."""
    modules = Counter(path.name for path in MODULES if path.name != "__init__.py")
    trees = (ast.parse(path.read_text("utf-8")) for path in MODULES)
    nodes = (node for tree in trees for node in ast.walk(tree))
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert [name for name, count in (modules + classes).items() if count > 1] == []
