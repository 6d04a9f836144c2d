"""The folder where the histories of builds lie. Blocks the thread.

Each build has two files: ``ID.json`` says what it was and what came of it, ``ID.events.zst``
holds its events.
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
from nixery.history.summary import Head, Summary, brief
from nixery.model.event_json import line, parse
from nixery.model.events import Event, Failed
from nixery.whole_file import whole_file

INTERRUPTED = "interrupted: the daemon ended while the image was made"
_HEAD, _EVENTS = ".json", ".events.zst"
_FORM = re.compile(r"(?P<id>[0-9a-f]{16})(?:\.events\.zst|\.json(?P<new>\.new)?)")
_BLOCK = 4096  # bytes in which file systems give out room: most builds' files are smaller


@attrs.frozen
class Kept:
    """A build that has ended.

    :param head: with no more of a long error than is shown in lists: there may be thousands.
    :param size: bytes that its files take of the disk.
    """

    head: Head
    size: int


class Shelf:
    """Files of histories, by the IDs of their builds."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._held: int | None = None

    def events(self, id: str) -> str:
        """The path of a build's events."""
        return os.path.join(self._folder, id + _EVENTS)

    def save(self, head: Head, details: dict[str, Any]) -> Kept:
        """Write what is to be said of a build, whole or not at all.

        :raises OSError: if it can't be written.
        """
        document = {"head": attrs.asdict(head), "details": details}
        path = os.path.join(self._folder, head.id + _HEAD)
        with whole_file(path) as file:
            file.write(json.dumps(document).encode("ascii"))
        return self._kept(head)

    def error(self, id: str) -> str | None:
        """Why a build failed, all of it, if that can be read."""
        try:
            return Head.parse(self._read(id)["head"]).error
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def details(self, id: str) -> dict[str, Any]:
        """What else is to be said of a build; nothing if it can't be read."""
        try:
            details: dict[str, Any] = self._read(id)["details"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return details

    def take(self) -> list[str]:
        """Have the folder, as the one process that may say of builds which run that they do not.

        :return: the names of all files that are there.
        :raises BlockingIOError: if another process has it.
        :raises OSError: if it can't be made or read.
        """
        os.makedirs(self._folder, exist_ok=True)
        self._hold()
        return os.listdir(self._folder)

    def load(self, ids: Iterable[str]) -> list[Kept]:
        """Those of some builds that can be read. Those that ran when their process died have
        failed."""
        kept = []
        for id in ids:
            try:
                head = Head.parse(self._read(id)["head"])
                if head.id != id:
                    raise ValueError("another build's")
            except (OSError, ValueError, KeyError, TypeError):
                continue
            kept.append(self._recover(head) if head.state == "running" else self._kept(head))
        return kept

    def clear(self, names: Iterable[str], known: Container[str], own: Container[str]) -> list[str]:
        """Remove files of ours that belong to no build.

        :param names: those that are looked at.
        :param known: the builds that there are.
        :param own: builds whose files may be written just now: they are left alone.
        :return: the names of those that were removed.
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
        """Forget some builds."""
        for id, ending in itertools.product(ids, (_HEAD, _EVENTS)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, id + ending))

    def leave(self) -> None:
        """Let another process load it."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _hold(self) -> None:
        """Lock the folder, until this process ends: nobody else may end its running builds."""
        self._held = held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.leave()
            raise
        except OSError:
            pass  # the file system has no locks

    def _recover(self, head: Head) -> Kept:
        """The end of a build that nobody saw."""
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

    def _kept(self, head: Head) -> Kept:
        return Kept(brief(head), self._size(head.id))

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
    """The builds that some files are of, the latest first."""
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
