"""The folder of the builds' files. Its methods block.

Each build has two files: ``ID.json`` has its head and summary, ``ID.events.zst`` its events.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
from collections.abc import Container, Iterable, Iterator
from typing import Any

import attrs

from nixery.history.blocks import GAP, Block, BlockFile
from nixery.history.summary import BuildHead, Summary, brief
from nixery.model.event_json import line, parse
from nixery.model.events import Event, Failed
from nixery.whole_file import whole_file

INTERRUPTED = "interrupted: the daemon ended while the image was made"
_HEAD, _EVENTS = ".json", ".events.zst"
_FORM = re.compile(r"(?P<id>[0-9a-f]{16})(?:\.events\.zst|\.json(?P<new>\.new)?)")
_BLOCK = 4096  # bytes that file systems allocate at once: most builds' files are smaller


@attrs.frozen
class KeptBuild:
    """A build that has ended.

    :param head: with a long error cut as in lists: there may be thousands.
    :param size: bytes that its files take on disk.
    """

    head: BuildHead
    size: int


class HistoryFolder:
    """The files of builds, by the builds' IDs."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._held: int | None = None

    def events(self, id: str) -> str:
        """The path of a build's events."""
        return os.path.join(self._folder, id + _EVENTS)

    def save(self, head: BuildHead, details: dict[str, Any]) -> KeptBuild:
        """Write a build's head and summary, as a whole or not at all.

        :raises OSError: if it can't be written.
        """
        document = {"head": attrs.asdict(head), "details": details}
        path = os.path.join(self._folder, head.id + _HEAD)
        # The head of a build that runs tells of it if this process dies, and not the machine.
        with whole_file(path, lasting=head.ended is not None) as file:
            file.write(json.dumps(document).encode("ascii"))
        return self._kept(head)

    def in_full(self, head: BuildHead) -> tuple[BuildHead, dict[str, Any]]:
        """A build with its whole error, and its summary, as far as they can be read."""
        try:
            document = self._read(head.id)
            error, details = BuildHead.parse(document["head"]).error, document["details"]
        except (OSError, ValueError, KeyError, TypeError):
            return head, {}
        return attrs.evolve(head, error=error or head.error), details

    def take(self) -> list[str]:
        """Lock the folder until this process ends: one process alone may end running builds.

        :return: the names of all files in it.
        :raises BlockingIOError: if another process has locked it.
        :raises OSError: if it can't be made or read.
        """
        os.makedirs(self._folder, exist_ok=True)
        self._held = held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.leave()
            raise
        except OSError:
            pass  # the file system has no locks
        return os.listdir(self._folder)

    def load(self, ids: Iterable[str]) -> list[KeptBuild]:
        """Those builds that can be read; those that ran when their process died have failed."""
        kept = []
        for id in ids:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                head = self.head(id)
                kept.append(self._recover(head) if head.state == "running" else self._kept(head))
        return kept

    def head(self, id: str) -> BuildHead:
        """A build as its file has it.

        :raises OSError: if it can't be read.
        :raises ValueError, KeyError or TypeError: if it is something else.
        """
        head = BuildHead.parse(self._read(id)["head"])
        if head.id != id:
            raise ValueError("another build's")
        return head

    def clear(self, names: Iterable[str], known: Container[str], own: Container[str]) -> list[str]:
        """Remove files of ours that belong to no build.

        :param names: of the files to look at.
        :param known: the builds that exist.
        :param own: builds whose files may be being written: they are left alone.
        :return: the names of removed files.
        """
        gone = []
        for name in names:
            form = _FORM.fullmatch(name)
            if form is None or form["id"] in own or (form["id"] in known and not form["new"]):
                continue
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))
                gone.append(name)
        return gone

    def remove(self, ids: Iterable[str]) -> None:
        """Remove the files of builds."""
        for id, ending in itertools.product(ids, (_HEAD, _EVENTS)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, id + ending))

    def leave(self) -> None:
        """Let another process take the folder."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _recover(self, head: BuildHead) -> KeptBuild:
        """End a build whose process died: it has failed."""
        file, summary, seconds = BlockFile(self.events(head.id)), Summary(), head.started
        with contextlib.suppress(OSError):
            file.scan()
            for event, at in _events(file):
                summary.note(event, at)
                seconds = at
        failed, number = Failed(INTERRUPTED, None), file.last + GAP + 1
        summary.note(failed, seconds)
        with contextlib.suppress(OSError):
            file.append(Block(number, number, line(number, seconds, failed)))
        head = attrs.evolve(
            head, state="failed", ended=seconds, error=INTERRUPTED, events=number, complete=False
        )
        try:
            return self.save(head, {**summary.document(), "fault": INTERRUPTED})
        except OSError:
            return self._kept(head)

    def _kept(self, head: BuildHead) -> KeptBuild:
        return KeptBuild(brief(head), self._size(head.id))

    def _size(self, id: str) -> int:
        size = 0
        for ending in (_HEAD, _EVENTS):
            with contextlib.suppress(OSError):
                length = os.stat(os.path.join(self._folder, id + ending)).st_size
                size += -(-length // _BLOCK) * _BLOCK
        return size

    def _read(self, id: str) -> Any:
        with open(os.path.join(self._folder, id + _HEAD), encoding="ascii") as file:
            return json.load(file)


def ids_of(names: Iterable[str]) -> list[str]:
    """The IDs of the builds that files belong to, the latest first."""
    heads = (name.removesuffix(_HEAD) for name in names if name.endswith(_HEAD))
    return sorted((id for id in heads if _FORM.fullmatch(id + _HEAD)), reverse=True)


def _events(file: BlockFile) -> Iterator[tuple[Event, float]]:
    after = 0
    while (block := file.read(after)) is not None:
        after = block.last
        for text in block.data.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                made = json.loads(text)
                yield parse(made), float(made["time"])
