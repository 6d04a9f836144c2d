"""Ceph's gateway to S3, with all that it takes: a monitor, a daemon that stores objects in memory,
the gateway. Debian's packages; nothing of it outlives the block.

All speak the second version of Ceph's protocol, with keys. By the first version, clients of Ceph 16
may ask the monitor before they have learned the cluster's ID, and are refused ("wrong fsid"): about
one in twenty, `ceph` and `ceph-osd` alike. Without keys, the gateway gets no connection by the
second.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from threading import Event, Thread

from tests.ports import free_port
from tests.s3.service import S3Service, service_at
from tests.waiting import wait_until

KEY = {"AWS_ACCESS_KEY_ID": "ceph", "AWS_SECRET_ACCESS_KEY": "secret"}
_CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = v2:127.0.0.1:{monitor}
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
ms bind msgr1 = false
mon allow pool size one = true
mon data avail crit = 0
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
keyring = {folder}/keyring
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""
_ALL = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")


class _Programs:
    """The programs of a cluster. When a daemon ends, so do the others: nobody waits for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[Popen[bytes]] = []
        self._over = Event()

    def start(self, program: str, *arguments: str) -> Popen[bytes]:
        """Start a daemon."""
        daemon = self._popen(program, "-f", *arguments)
        self._daemons.append(daemon)
        return daemon

    def run(self, program: str, *arguments: str) -> None:
        """Run a command to its end, or until a daemon ends."""
        command = self._popen(program, *arguments)
        try:
            wait_until(lambda: command.poll() is not None or self._ended(), f"{program} hangs")
        finally:
            command.kill()
            command.wait()
        assert command.returncode == 0, f"{command.args!r} failed:{self._logs()}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have no daemon outlive the block, or another one.

        :raises AssertionError: a daemon has ended before the block.
        """
        watch = Thread(target=self._watch)
        watch.start()
        try:
            yield
        finally:
            self._over.set()
            watch.join()
            ended = self._ended()
            self._kill()
            assert not ended, f"{ended} ended:{self._logs()}"

    def _popen(self, program: str, *arguments: str) -> Popen[bytes]:
        with (self._folder / f"{program}.out").open("ab") as output:
            command = [program, "-c", "ceph.conf", *arguments]
            return Popen(command, cwd=self._folder, stdout=output, stderr=output)

    def _ended(self) -> list[object]:
        """The commands of the daemons that have ended."""
        return [daemon.args for daemon in self._daemons if daemon.poll() is not None]

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            if self._ended():
                self._kill()

    def _kill(self) -> None:
        # Not asked to end: a gateway or a store that waits for another daemon would not.
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()

    def _logs(self) -> str:
        """The ends of what all programs have written."""
        files = sorted([*self._folder.glob("*.out"), *self._folder.glob("*.log")])
        ends = [(file.name, file.read_text(errors="replace")[-3000:]) for file in files]
        return "".join(f"\n--- {name}\n{end}" for name, end in ends if end)


@contextmanager
def ceph_gateway(folder: Path, bucket: str = "images") -> Iterator[S3Service]:
    """Run all of it until the block ends.

    :param folder: for its files and logs.
    """
    cluster, monitor, gateway = str(uuid.uuid4()), free_port(), free_port()
    for name in ("mon", "osd"):
        (folder / name).mkdir(parents=True)
    text = _CONFIGURATION.format(cluster=cluster, monitor=monitor, gateway=gateway, folder=folder)
    (folder / "ceph.conf").write_text(text)
    (folder / "keyring").touch()
    programs = _Programs(folder)
    run, start = programs.run, programs.start
    with programs.watched():
        for name in ("mon.", "client.admin", "client.rgw", "osd.0"):
            run("ceph-authtool", "keyring", "--gen-key", "--name", name, *_ALL)
        made = ("--monmap", "map", "--fsid", cluster, "--keyring", "keyring")
        run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor}]", "map")
        run("ceph-mon", "--mkfs", "-i", "a", *made)
        start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        run("ceph", "osd", "new", disk)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        user = ["--uid=nixery", "--display-name=nixery", "--access-key=ceph", "--secret=secret"]
        run("radosgw-admin", "user", "create", *user)
        process = start("radosgw", "-n", "client.rgw")
        log = folder / "radosgw.out"
        yield service_at(f"http://127.0.0.1:{gateway}", bucket, process, KEY, log)
