"""Images with Nix, terminals, fonts, manual pages and nix-ld, in use."""

import re

import pytest

from tests.e2e.clients import Docker
from tests.e2e.conftest import Run
from tests.e2e.daemon import Daemon

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

# The shell holds on to its output until it ends: Nix kills a builder that has closed its own.
PACKAGE = """derivation {
  name = "hi-1.0"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/bin";
  args = [ "-ec" ''
    mkdir -p $out/bin
    echo '#!/bin/sh' > $out/bin/hi; echo 'echo installed' >> $out/bin/hi; chmod +x $out/bin/hi
    exit 0
  '' ];
}"""
FOREIGN = ("-v", "/usr/bin/env:/foreign:ro")
LOADER = "/run/current-system/sw/share/nix-ld/lib"


def test_nix_knows_what_is_in_its_image(run: Run) -> None:
    """All store paths of an image with Nix are registered as they are, and none is garbage."""
    script = """
        bash=$(readlink -f /bin/bash); bash=${bash%/bin/bash}
        nix-store -q --references $bash
        nix-store --verify --check-contents 2>&1 || echo damaged
        nix-collect-garbage 2>&1
        echo left $(ls /nix/store | wc -l) of $(nix-store -qR /nix/var/nix/gcroots/image/* | wc -l)
        ls / > /dev/null
    """
    output = run("shell/nix", "bash", "-ec", script)
    assert re.search(r"^/nix/store/\w{32}-libc6-", output, re.MULTILINE)
    assert "damaged" not in output
    assert "0 store paths deleted" in output
    left = re.search(r"^left (\d+) of (\d+)$", output, re.MULTILINE)
    assert left is not None
    assert left[1] == left[2]


@pytest.mark.parametrize("name", ["shell/nix", "user/shell/nix"])
def test_nix_builds_and_installs(run: Run, name: str) -> None:
    """Without privileges and network, the image's user builds, installs and uses a package; when
    it is removed, it is garbage and all else is not."""
    script = f"""
        cd ~; cat > hi.nix <<'END'
{PACKAGE}
END
        export NIX_CONFIG='substitute = false'
        built=$(nix-build hi.nix); $built/bin/hi; rm result
        nix-env -f hi.nix -i; hi
        nix-env -e hi; nix-collect-garbage -d
        ! ls $built; nix-store -qR /bin/bash > /dev/null; echo whole
    """
    output = run(name, "bash", "-ec", f"({script}) 2>&1")
    lines = output.splitlines()
    assert lines.count("installed") == 2, output
    assert lines[-1] == "whole", output


def test_settings_of_a_package_win(daemon: Daemon, run: Run) -> None:
    """Nix's settings that a package brings are kept, which the build tells; what it brings of a
    store is not taken."""
    output = run("shell/manysettings/nix", "cat", "/etc/nix/nix.conf", "/nix/var/nix/db/schema")
    assert output == "sandbox = true\n10"
    assert "/etc/nix/nix.conf is from manysettings, not from the system" in daemon.log


def test_terminals_are_known(run: Run) -> None:
    """The description of a terminal is found by a program whose own place for it is another, and
    what the user sets counts first."""
    script = "unset TERM; TERM=xterm-256color tmux new -d 'sleep 60' && tmux ls"
    assert "1 windows" in run("shell/tmux", "bash", "-c", script, options=("-t",))
    # One that a package brings alone, beside those of the closure.
    mine = script.replace("xterm-256color", "mterm")
    assert "1 windows" in run("shell/tmux/manysettings", "bash", "-c", mine, options=("-t",))
    given = ("-e", "TERMINFO_DIRS=/mine")
    assert run("shell", "sh", "-c", "echo $TERMINFO_DIRS", options=given) == "/mine\n"
    assert run("shell", "sh", "-c", "ls $TERMINFO_DIRS/x/xterm").endswith("/xterm\n")


def test_fonts_are_found(run: Run) -> None:
    """Fonts that are named are found by what they are for, and so are those of a user."""
    name = "shell/fontconfig/dejavu_fonts"
    assert 'DejaVuSerif.ttf: "DejaVu Serif"' in run(name, "fc-match", "serif")
    script = "mkdir -p ~/.local/share/fonts; cp /usr/share/fonts/*/*/*Mono.ttf $_; fc-list"
    assert "/root/.local/share/fonts/DejaVuSansMono.ttf" in run(name, "bash", "-c", script)


def test_manual_pages_are_found(run: Run) -> None:
    """A manual page that a package brings is shown, and one that is added later, too."""
    assert "manual" in run("shell/installstwo/mandoc", "mman", "two")
    script = "mkdir -p /usr/local/share/man/man1; echo mine > $_/own.1; mman own"
    assert "mine" in run("shell/installstwo/mandoc", "bash", "-c", script)


def test_a_loader_that_is_told(daemon: Daemon, docker: Docker, run: Run) -> None:
    """In a set whose own loader looks for libraries in the store alone, a program of a
    distribution runs where nix-ld is; its variables, and the place where it looks without them,
    lead to a loader and libraries that work."""
    assert "Hello" in run("ownlibraries", "own")
    alone = docker(
        "run", "--rm", "--network=none", *FOREIGN, f"{daemon.host}/ownlibraries", "/foreign"
    )
    assert "error while loading shared libraries" in alone.output
    name = "ownlibraries/standinloader"
    said = dict(line.split("=", 1) for line in run(name, "/foreign", options=FOREIGN).splitlines())
    for loader, libraries in (
        (said["NIX_LD"], said["NIX_LD_LIBRARY_PATH"]),
        (f"{LOADER}/ld.so", LOADER),
    ):
        command = (loader, "--library-path", libraries, "/foreign")
        assert "NIX_LD=" in run(name, *command, options=FOREIGN)
