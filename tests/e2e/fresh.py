"""A Debian that debootstrap has made, with git, make and systemd, and nothing else."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import psutil

from tests.e2e.clients import Ran, run
from tests.e2e.packages import KEPT, TOP, alone
from tests.leftovers import remove
from tests.waiting import HUNG, wait_until

_SCRIPT = Path(__file__).with_name("fresh.sh")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES_THERE = "/etc/certificates.pem"
"""Those of this machine, in a file that no package writes."""

_INSTALLED = ("git", "make", "systemd")
_PROGRAMS = ("sbin", "bin")


@attrs.frozen
class Fresh:
    """The machine.

    :param first: a process there.
    :param root: its root folder, from here.
    :param checkout: the folder of this project there.
    :param environ: what ordinary shells have there.
    """

    first: psutil.Process
    root: Path
    checkout: str
    environ: dict[str, str]

    def inside(self, command: str) -> list[str]:
        """The command that has a shell there, in the checkout, run another."""
        enter = ["nsenter", f"--target={self.first.pid}", "--mount", "--pid", "--root"]
        named = [f"{name}={value}" for name, value in self.environ.items()]
        script = f"cd {shlex.quote(self.checkout)} && {command}"
        return [*enter, "--wd", "env", "-i", *named, "bash", "-c", script]

    def __call__(self, command: str, typed: str = "") -> Ran:
        """Run a command in the checkout.

        :param typed: what is answered to its questions.
        """
        done = subprocess.run(
            self.inside(command),
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HUNG,
            start_new_session=True,  # no terminal to ask at
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"))


@contextmanager
def fresh_machine(suite: str, checkout: str) -> Iterator[Fresh]:
    """Have one for a while, with a copy of this checkout; needs root.

    :param suite: the release of Debian.
    :param checkout: the path of the copy.
    """
    folder = Path(tempfile.mkdtemp(prefix="fresh-"))
    root = folder / "root"
    try:
        _ok("cp", "--archive", str(_bootstrap(suite)), str(root))
        shown = _configure(root)
        check_out(root / checkout[1:])
        process = subprocess.Popen([str(_SCRIPT), str(root), *shown])
        try:
            wait_until(lambda: _entered(process))
            (first,) = psutil.Process(process.pid).children()
            yield Fresh(first, root, checkout, _environ())
        finally:
            process.kill()  # and with it all that runs there
            process.wait()
    finally:
        remove(folder)


def _entered(process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "it did not start"
    children = psutil.Process(process.pid).children()
    return bool(children) and os.path.exists(f"/proc/{children[0].pid}/root/run/entered")


def _bootstrap(suite: str) -> Path:
    """The root folder that machines begin with, made unless it is here since an earlier run."""
    packages = ",".join(_INSTALLED)
    path = KEPT / f"fresh-{suite}-{packages}"
    with alone(path.name):
        if not path.exists():
            new = path.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            _ok("debootstrap", "--variant=minbase", f"--include={packages}", suite, str(new))
            new.rename(path)
    return path


def _configure(root: Path) -> list[str]:
    """Have packages come from where this machine has them from.

    :return: folders that have to be there as they are here.
    """
    shutil.copy(_CERTIFICATES, root / _CERTIFICATES_THERE[1:])
    for file in Path("/etc/apt/apt.conf.d").glob("99*"):
        shutil.copy(file, root / "etc" / "apt" / "apt.conf.d")
    for file in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf"):
        if file.exists():
            target = root / "etc" / "pip.conf" if file.is_relative_to("/etc") else None
            shutil.copy(file, target or _folder(root / "root/.config/pip"))
    sources = run(["pip", "config", "get", "global.find-links"]).output.split()
    sources += os.environ.get("PIP_FIND_LINKS", "").split()
    folders = {word.removeprefix("file://") for word in sources if word.startswith(("/", "file:"))}
    return sorted(folder for folder in folders if os.path.isdir(folder))


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _environ() -> dict[str, str]:
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    shell = {
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    return {**pip, **shell, "PIP_CERT": _CERTIFICATES_THERE}


def check_out(folder: Path) -> None:
    """Copy all files of this checkout, or unpacked sdist, that git does not ignore."""
    with tempfile.TemporaryDirectory() as empty:
        subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True)
        listed = subprocess.run(
            [
                *("git", f"--git-dir={empty}", f"--work-tree={TOP}"),
                *("ls-files", "-z", "--others", "--exclude-standard"),
            ],
            cwd=TOP,
            capture_output=True,
            check=True,
        )
    for name in filter(None, listed.stdout.decode().split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, folder / name)


def _ok(*argv: str) -> None:
    ran = run(list(argv))
    assert ran.code == 0, f"{' '.join(argv)}: {ran.output}"
