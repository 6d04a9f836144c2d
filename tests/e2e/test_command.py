"""The command ``nixery`` and a real daemon."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.packages import PackageSet
from tests.waiting import HUNG, wait_until

pytestmark = pytest.mark.real_nix

NIXERY = str(Path(sys.executable).with_name("nixery"))
TEN = ("bash", "coreutils", "git", "hello", "htop", "jq", "nano", "python3", "curl", "gnugrep")


@attrs.frozen
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def nixery(daemon: Daemon | None, *arguments: str, **environ: str) -> Ran:
    """Run a command for the daemon of a state folder."""
    known = {name: text for name, text in os.environ.items() if not name.startswith("NIXERY_")}
    state = {} if daemon is None else {"STATE_DIRECTORY": str(daemon.state)}
    ran = subprocess.run(
        [NIXERY, *arguments],
        env={**known, **state, **environ},
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def in_terminal(daemon: Daemon, columns: int, *arguments: str) -> tuple[int, str]:
    """Run a command in a terminal.

    :return: its exit code, and all that it wrote to the terminal.
    """
    environ = {**os.environ, "STATE_DIRECTORY": str(daemon.state), "TERM": "xterm"}
    environ.pop("COLUMNS", None)
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # With this environment alone: readline has put COLUMNS into that of the process.
        os.execve(NIXERY, [NIXERY, *arguments], environ)
    written = b""
    while True:
        try:
            written += os.read(terminal, 65536)
        except OSError:  # the command has ended
            break
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), written.decode()


def test_a_life(start_daemon: StartDaemon) -> None:
    """An image is made, listed, shown, its log read, compared, removed; what is no more is not
    found."""
    daemon = start_daemon()
    assert nixery(daemon, "list", "--json").json() == {"images": []}
    assert nixery(daemon, "show", "hello").code == 3
    made = nixery(daemon, "pull-ready", "hello", "shell/jq", "--json")
    assert made.code == 0, made.err
    hello, jq = made.json()["images"]
    assert hello["digest"] == daemon.pull("hello").headers["Docker-Content-Digest"]
    listed = nixery(daemon, "list", "--json").json()["images"]
    assert {each["name"]: each["digest"] for each in listed} == {
        "hello": hello["digest"],
        "shell/jq": jq["digest"],
    }
    table = nixery(daemon, "list", "shell/*").out.splitlines()
    assert [line.split()[0] for line in table] == ["NAME", "shell/jq"]
    shown = nixery(daemon, "show", "hello", "--json").json()
    assert "hello" in [each["package"] for each in shown["contents"]["packages"]]
    assert "root file system" in nixery(daemon, "show", f"hello@{hello['digest']}").out
    log = nixery(daemon, "log", "hello")
    assert log.code == 0
    assert f"nixery> done, as {hello['digest']}" in log.out
    compared = nixery(daemon, "compare", "hello", "shell/jq")
    assert compared.code == 5
    assert "pulls" in compared.out
    tidied = nixery(daemon, "gc", "--json")
    assert (tidied.code, tidied.json()["dropped"]) == (0, 0)
    removed = nixery(daemon, "rm", "hello")
    assert (removed.code, removed.out) == (0, "removed hello:latest\n")
    assert nixery(daemon, "rm", "hello").code == nixery(daemon, "show", "hello").code == 3
    again = nixery(daemon, "pull-ready", "hello", "--json").json()["images"][0]
    assert again["digest"] == hello["digest"]


def test_search(start_daemon: StartDaemon) -> None:
    """Packages are found when the index is made."""
    daemon = start_daemon()
    found = nixery(daemon, "search", "jq", "--json")
    assert found.code == 0, found.err
    assert found.json()["packages"][0]["name"] == "jq"
    assert nixery(daemon, "search", "nothingiscalledso").code == 3


def test_without_a_daemon(start_daemon: StartDaemon) -> None:
    """When the daemon is stopped, what it made is listed, shown, and its log read."""
    daemon = start_daemon()
    digest = nixery(daemon, "pull-ready", "hello", "--json").json()["images"][0]["digest"]
    assert daemon.stop() == 0
    (listed,) = nixery(daemon, "list", "--json").json()["images"]
    assert (listed["name"], listed["digest"]) == ("hello", digest)
    assert nixery(daemon, "show", "hello").code == 0
    assert f"done, as {digest}" in nixery(daemon, "log", "hello").out
    for arguments in (["rm", "hello"], ["gc"], ["verify", "hello"], ["pull-ready", "hello"]):
        refused = nixery(daemon, *arguments)
        assert refused.code == 4
        assert "no daemon runs" in refused.err


def test_from_elsewhere(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """By URL, a daemon is asked with the operator's token, and refuses others."""
    daemon = start_daemon()
    url = f"http://{daemon.host}"
    refused = nixery(None, "list", "--url", url, HOME=str(tmp_path))
    assert refused.code == 4
    assert "--token-file" in refused.err
    token = (daemon.state / "api-token").read_text().strip()
    assert nixery(None, "list", NIXERY_URL=url, NIXERY_API_TOKEN=token).code == 0
    file = tmp_path / "token"
    file.write_text("another-token-than-that\n")
    assert nixery(None, "list", "--url", url, "--token-file", str(file)).code == 4
    assert (daemon.state / "api-token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("columns", [40, 120])
def test_a_terminal(start_daemon: StartDaemon, columns: int) -> None:
    """In a terminal, a build has a bar, and tables are no wider than it."""
    daemon = start_daemon()
    code, written = in_terminal(daemon, columns, "pull-ready", "shell/git", "hello")
    assert code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "ready" in shown
    assert ("━" in shown) == (columns >= 60)
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= columns
    code, written = in_terminal(daemon, columns, "list")
    assert code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert max(map(len, shown.splitlines())) <= columns


def test_an_interrupt(start_daemon: StartDaemon, package_set: PackageSet, tmp_path: Path) -> None:
    """Ctrl-C ends the wait at once and quietly; the build goes on, and its log can be followed."""
    packages = package_set.with_slow(tmp_path)
    daemon = start_daemon(packages=packages)
    environ = {**os.environ, "STATE_DIRECTORY": str(daemon.state)}
    with subprocess.Popen(
        [NIXERY, "pull-ready", "slow"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        wait_until(lambda: "building slow-" in daemon.log)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=HUNG)
    assert (waiting.returncode, said.strip()) == (130, "")
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(nixery, daemon, "log", "-f", "slow")
        wait_until(lambda: "step 3" in nixery(daemon, "log", "slow").out)
        packages.go_on()
        log = following.result()
    assert log.code == 0
    assert "last step" in log.out
    assert "done, as sha256:" in log.out


def test_failures(start_daemon: StartDaemon) -> None:
    """An image that can't be made is told with its reason, and so is its log."""
    daemon = start_daemon()
    made = nixery(daemon, "pull-ready", "broken", "hello")
    assert made.code == 1
    assert "broken-1.0" in made.err
    assert "hello:latest: ready" in made.out
    log = nixery(daemon, "log", "broken")
    assert log.code == 1
    assert "nixery> failed:" in log.out


def test_the_same(start_daemon: StartDaemon) -> None:
    """Ten packages come out the same when they are built and packed again, and that is kept."""
    daemon = start_daemon()
    name = "/".join(TEN)
    assert nixery(daemon, "pull-ready", name).code == 0
    verified = nixery(daemon, "verify", name, "--json")
    assert verified.code == 0, verified.out + verified.err
    result = verified.json()
    assert result["outcome"] == "same"
    assert result["again"] == result["digest"]
    built = [each for each in result["derivations"] if each["outcome"] == "same"]
    assert len(built) >= len(TEN)
    assert {each["outcome"] for each in result["layers"]} == {"same"}
    shown = nixery(daemon, "show", name, "--json").json()
    assert shown["verified"] == result


def test_another_one(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Another instance serves the same image, or says which it serves."""
    daemon, other = start_daemon(), start_daemon(state=tmp_path / "other")
    assert nixery(daemon, "pull-ready", "hello").code == 0
    verified = nixery(daemon, "verify", "hello", "--against", f"http://{other.host}")
    assert verified.code == 0, verified.err
    assert "comes out the same" in verified.out
    nothing = nixery(daemon, "verify", "hello", "--against", "http://127.0.0.1:1")
    assert nothing.code == 1
    assert "127.0.0.1:1" in nothing.err


def test_a_difference(start_daemon: StartDaemon) -> None:
    """A package that is never the same is told, with its first file that differs; the Nix store is
    left as it was."""
    daemon = start_daemon()
    assert nixery(daemon, "pull-ready", "nevertthesame").code == 1
    assert nixery(daemon, "pull-ready", "neverthesame").code == 0
    verified = nixery(daemon, "verify", "neverthesame")
    assert verified.code == 5, verified.err
    assert "share/id differs from byte 0" in verified.out
    assert "comes out different" in verified.out
    store = Path(daemon.environ["NIXERY_NIX_STORE"]) / "nix" / "store"
    assert not list(store.glob("*never-the-same*.check"))
    assert daemon.pull("neverthesame").status == 200
    assert nixery(daemon, "verify", "hello").code == 1
