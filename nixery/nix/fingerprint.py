"""One digest over the contents of a folder."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator

_PIECE = 1024 * 1024

Identity = tuple[int, ...]
See = Callable[[str, os.stat_result], None]
"""Takes the path and the ``lstat`` of something that a walk has come to, before it is looked
into."""


def sha256_of(path: str) -> str:
    """The sha256 of a file's contents, as 64 hexadecimal digits. Blocks."""
    whole = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
    return whole.hexdigest()


def see_nothing(path: str, facts: os.stat_result) -> None:
    """For walks that nobody wants to know about."""


class Fingerprints:
    """Takes fingerprints of one folder, again and again. Blocks.

    Files are read again only when their inode, size or times have changed: a second fingerprint
    costs one ``lstat`` a file. Not safe for two threads at a time.
    """

    def __init__(self, top: str, read: Callable[[str], str] = sha256_of) -> None:
        """
        :param top: the folder, a file, or a link to one.
        :param read: computes the digest of a file's contents, given its path.
        """
        self._top = top
        self._read = read
        self._known: dict[str, tuple[Identity, str]] = {}

    def look(self, see: See = see_nothing) -> str:
        """A digest that changes whenever a name, a kind, a size or a time in the folder does.

        It reads no file, and is only good for comparison with an earlier one.

        :param see: is told of everything in it, and of the folder itself.
        :raises OSError: if a folder can't be read.
        """
        whole = hashlib.sha256()
        for _, name, facts in _walk(os.path.realpath(self._top), see):
            whole.update(f"{_identity(facts)} {facts.st_mode} ".encode("ascii"))
            whole.update(os.fsencode(name) + b"\0")
        return whole.hexdigest()

    def take(self, see: See = see_nothing) -> str:
        """The sha256, as 64 hexadecimal digits, over the names, kinds, contents and executable bits
        of all that is in the folder but ``.git``. No link is followed, except for the folder.

        :param see: is told of all that.
        :raises OSError: if something can't be read.
        """
        known, self._known = self._known, {}
        whole = hashlib.sha256()
        for path, name, facts in _walk(os.path.realpath(self._top), see):
            encoded = os.fsencode(name)
            whole.update(b"%d:%s" % (len(encoded), encoded))
            whole.update(self._contents(path, facts, known))
        return whole.hexdigest()

    def _contents(
        self, path: str, facts: os.stat_result, known: dict[str, tuple[Identity, str]]
    ) -> bytes:
        if stat.S_ISLNK(facts.st_mode):
            target = os.fsencode(os.readlink(path))
            return b"l%d:%s" % (len(target), target)
        if not stat.S_ISREG(facts.st_mode):
            return b"d" if stat.S_ISDIR(facts.st_mode) else b"?"
        identity = _identity(facts)
        before = known.get(path)
        digest = before[1] if before and before[0] == identity else self._read(path)
        self._known[path] = (identity, digest)
        return (b"x" if facts.st_mode & stat.S_IXUSR else b"f") + digest.encode("ascii")


def _identity(facts: os.stat_result) -> Identity:
    return (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _walk(top: str, see: See) -> Iterator[tuple[str, str, os.stat_result]]:
    """The top and all below it, in an order that is the same everywhere: paths, names relative
    to the top, and the result of ``lstat``."""
    see(top, os.lstat(top))
    facts = os.lstat(top)  # what was changed before it was seen counts
    yield top, ".", facts
    if stat.S_ISDIR(facts.st_mode):
        yield from _walk_below(top, see)


def _walk_below(folder: str, see: See) -> Iterator[tuple[str, str, os.stat_result]]:
    """Without recursion, however deep the folders are."""
    stack = [_entries(folder, "")]
    while stack:
        entry, name = next(stack[-1], (None, ""))
        if entry is None:
            stack.pop()
            continue
        facts = entry.stat(follow_symlinks=False)
        see(entry.path, facts)
        yield entry.path, name, facts
        if entry.is_dir(follow_symlinks=False):
            stack.append(_entries(entry.path, f"{name}/"))


def _entries(folder: str, prefix: str) -> Iterator[tuple["os.DirEntry[str]", str]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    return ((entry, prefix + entry.name) for entry in entries if entry.name != ".git")
