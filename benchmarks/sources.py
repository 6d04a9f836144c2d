"""Pulls of a known image from each kind of package source, and what a large folder costs.

Run by ``make bench``. The ratios, taken in one run, are what to compare.
"""

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nixery.nix.fingerprint import Fingerprints
from tests.e2e.daemon import Daemon, running
from tests.e2e.git_servers import git_over_http
from tests.e2e.packages import make_package_set
from tests.e2e.test_sources import SET
from tests.repository import Repository

REQUESTS = 300
FILES, PER_FOLDER = 50_000, 100


def pulls(what: str, daemon: Daemon, tag: str) -> None:
    """Pull a known image, one after another."""
    assert daemon.pull("greeting", tag).status == 200
    before = daemon.git_runs() + daemon.nix_builds
    pull = rate(lambda: daemon.pull("greeting", tag))
    base = rate(lambda: daemon.get("/v2/"))
    started = daemon.git_runs() + daemon.nix_builds - before
    print(f"  {what:18} {pull:5.0f} pulls/s, one for {base / pull:5.2f} GET /v2/;", end=" ")
    print(f"processes started: {started}")


def rate(ask: Callable[[], object]) -> float:
    """Requests per second, one after another."""
    began = time.perf_counter()
    for _ in range(REQUESTS):
        ask()
    return REQUESTS / (time.perf_counter() - began)


def make_folder(top: Path) -> None:
    for number in range(FILES):
        folder = top / f"folder{number // PER_FOLDER}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}.nix").write_text(f"{{ number = {number}; }}\n" * 20)


def lateness(work: threading.Thread) -> float:
    """How late a timer of one millisecond comes at most, in milliseconds, while a thread works."""

    async def watch() -> list[float]:
        late = []
        while work.is_alive():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(1000 * (time.perf_counter() - began) - 1)
        return late

    work.start()
    return statistics.quantiles(asyncio.run(watch()), n=100)[98]


def fingerprints(top: Path) -> None:
    """A fingerprint of many files: the first, which reads them, and the next."""
    ours = Fingerprints(str(top))
    print(f"a folder of {FILES} files")
    for what, work in (("first", ours.take), ("look", ours.look), ("again", ours.take)):
        began = time.perf_counter()
        p99 = lateness(threading.Thread(target=work))
        seconds = time.perf_counter() - began
        print(f"  {what:6} {1000 * seconds:5.0f} ms; the reactor is late by p99 {p99:.1f} ms")


def main() -> None:
    package_set = make_package_set()
    with tempfile.TemporaryDirectory() as name, git_over_http(Path(name)) as server:
        top = Path(name)
        repository = Repository(top / "tree")
        commit = repository.commit(SET)
        repository.git("branch", "nixos-unstable")
        plain = top / "plain"
        plain.mkdir()
        (plain / "default.nix").write_text(SET)
        flake = Repository(top / "flake")
        text = SET.replace("builtins.currentSystem", '"x86_64-linux"')
        (flake.folder / "flake.nix").write_text(
            f"{{ outputs = {{ self }}: {{ packages.x86_64-linux = {text}; }}; }}"
        )
        flake.commit("{ }")
        large = top / "large"
        large.mkdir()
        make_folder(large)
        (large / "default.nix").write_text(SET)
        sources = {
            "git, latest": {"NIXERY_PKGS_REPO": server.url("tree/.git")},
            "git, a commit": {"NIXERY_PKGS_REPO": server.url("tree/.git"), "commit": commit},
            "channel": {"NIXERY_NIXPKGS_URL": repository.url},
            "flake": {"NIXERY_FLAKE": f"git+file://{flake.folder}"},
            "folder": {"NIXERY_PKGS_PATH": str(plain)},
            "clean work tree": {"NIXERY_PKGS_PATH": str(repository.folder)},
            f"folder of {FILES}": {"NIXERY_PKGS_PATH": str(large)},
        }
        print(f"known image, {REQUESTS} pulls one after another, each on a new connection")
        for number, (what, settings) in enumerate(sources.items()):
            tag = settings.pop("commit", "latest")
            environ = {**package_set.environ, "NIXERY_PKGS_PATH": "", **settings}
            with running(top / f"state{number}", environ) as daemon:
                pulls(what, daemon, tag)
        fingerprints(large)


if __name__ == "__main__":
    main()
