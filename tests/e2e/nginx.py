"""nginx with a site of a test's."""

import getpass
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import HUNG, wait_until

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def serving(site: str, folder: Path) -> Iterator[None]:
    """nginx as it runs, for the length of a block.

    :param site: what a page says of it.
    :param folder: is made, for all that it writes.
    """
    folder.mkdir()
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/pid; user {getpass.getuser()}; worker_processes 1; events {{}}"
        f"http {{ access_log off; {temporary}\n{site}\n}}"
    )
    command = ["/usr/sbin/nginx", "-e", str(folder / "errors"), "-c", str(configuration)]
    process = subprocess.Popen(command)
    try:
        wait_until((folder / "pid").exists)
        yield
    finally:
        process.terminate()
        process.wait(timeout=HUNG)
