"""Ceph's gateway to S3, with all that it takes: a monitor, a daemon that stores objects in memory,
the gateway. Debian's packages; nothing of it outlives the block."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

from tests.ports import free_port
from tests.s3.service import S3Service, service_at
from tests.waiting import HUNG

KEY = {"AWS_ACCESS_KEY_ID": "ceph", "AWS_SECRET_ACCESS_KEY": "secret"}
_CONFIGURATION = """\
[global]
fsid = {cluster}
mon host = v1:127.0.0.1:{monitor}
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
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

    def run(program: str, *arguments: str) -> None:
        command = [program, "-c", "ceph.conf", *arguments]
        ran = subprocess.run(command, cwd=folder, capture_output=True, timeout=HUNG, check=False)
        assert ran.returncode == 0, (command, ran.stderr)

    with ExitStack() as stack:

        def start(program: str, *arguments: str) -> Popen[bytes]:
            log = stack.enter_context((folder / f"{program}.out").open("wb"))
            command = [program, "-c", "ceph.conf", "-f", *arguments]
            process = Popen(command, cwd=folder, stdout=log, stderr=log)
            stack.callback(_end, process)
            return process

        address = f"[v1:127.0.0.1:{monitor}]"
        run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, "map")
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "map", "--fsid", cluster)
        start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        run("ceph", "osd", "new", disk)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        process = start("radosgw", "-n", "client.rgw")
        user = ["--uid=nixery", "--display-name=nixery", "--access-key=ceph", "--secret=secret"]
        run("radosgw-admin", "user", "create", *user)
        log = folder / "radosgw.out"
        yield service_at(f"http://127.0.0.1:{gateway}", bucket, process, KEY, log)


def _end(process: Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=HUNG)
