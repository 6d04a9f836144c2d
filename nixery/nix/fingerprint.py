"""What a folder's contents are, as one digest."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator

_PIECE = 1024 * 1024


def sha256_of(path: str) -> str:
    """The digest of a file's contents, as 64 hexadecimal digits."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest()


class Fingerprints:
    """Takes fingerprints of one folder, again and again.

    Files are read once, and again only when their inode, size or times differ: a second
    fingerprint costs one ``lstat`` a file. Not safe for two threads at a time.
    """

    def __init__(self, read: Callable[[str], str] = sha256_of) -> None:
        """
        :param read: from a file's path to the digest of its contents.
        """
        self._read = read
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def take(self, top: str) -> str:
        """The sha256, as 64 hexadecimal digits, over all names, kinds, contents and executable
        bits below a folder, or of a file. ``.git`` is left out; a link is followed only if it is
        the folder itself.

        :raises OSError: if something can't be read.
        """
        top = os.path.realpath(top)
        known, self._known = self._known, {}
        whole = hashlib.sha256()
        for path in _walk(top):
            facts = os.lstat(path)
            name = os.fsencode(os.path.relpath(path, top))
            whole.update(b"%d:%s" % (len(name), name))
            whole.update(self._contents(path, facts, known))
        return whole.hexdigest()

    def _contents(
        self, path: str, facts: os.stat_result, known: dict[str, tuple[tuple[int, ...], str]]
    ) -> bytes:
        if stat.S_ISLNK(facts.st_mode):
            target = os.fsencode(os.readlink(path))
            return b"l%d:%s" % (len(target), target)
        if not stat.S_ISREG(facts.st_mode):
            return b"d" if stat.S_ISDIR(facts.st_mode) else b"?"
        identity = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        before = known.get(path)
        digest = before[1] if before and before[0] == identity else self._read(path)
        self._known[path] = (identity, digest)
        return (b"x" if facts.st_mode & stat.S_IXUSR else b"f") + digest.encode("ascii")


def _walk(top: str) -> Iterator[str]:
    """The top and all below it, in an order that is the same everywhere."""
    yield top
    if os.path.isdir(top):
        for name in sorted(os.listdir(top), key=os.fsencode):
            path = os.path.join(top, name)
            if name == ".git":
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                yield from _walk(path)
            else:
                yield path
