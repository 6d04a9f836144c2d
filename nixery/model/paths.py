"""Messages without details of this machine: paths of files and source lines.

Nix, git and the operating system name files by absolute paths. Clients are told the last step of
one, and of a store path its name and what is in it: that says which file is meant, and nothing of
where it lies.
"""

import re

from nixery.model.closure import STORE

_OPENS, _CLOSES = "\"'`‘“", "\"'`’”"
# Within quotes a path may hold anything; elsewhere it ends where a word ends. What has a word, a
# dot or a slash before it is a part of a URL or of a relative path.
_QUOTED = re.compile(rf"(?<=[{_OPENS}])(?:file:(?://)?)?(/[^{_CLOSES}\n]+)(?=[{_CLOSES}])")
_BARE = re.compile(
    rf"(?<![\w.~/:@%+…-])(?:[a-z]{{1,10}}\+)?(?:(?:file:(?://)?)|path:)?(/[^\s{_CLOSES}:;,()<>{{}}|=]+)"
)
# Where it was, said beside what was wrong: "Read-only file system (/srv/images/x)".
_ASIDE = re.compile(r" \(/[^()\n]*\)")
_HASHED = re.compile(rf"{STORE}/[0-9a-z]{{32}}-")
# Where something is said to be, at the end of a sentence, in whatever quotes.
_AT = re.compile(rf" at (?:[{_OPENS}]/[^{_CLOSES}\n]*[{_CLOSES}]*|/\S+)$", re.MULTILINE)
_POSITION = re.compile(r"at \S.*:[0-9]+(:[0-9]+)?:?|at «.*|\d*\|.*|….*")


def hide_paths(text: str) -> str:
    """A text that names the files of this machine by their last steps only."""
    if "/" not in text:
        return text
    text = _QUOTED.sub(lambda match: _last_step(match[1]), _ASIDE.sub("", text))
    return _BARE.sub(lambda match: _last_step(match[1]), text)


def without_location(text: str) -> str:
    """A sentence of Nix's without the path at its end that says where a file is missing."""
    return _AT.sub("", text)


def without_trace(text: str) -> str:
    """A message of Nix without traces, positions and source lines."""
    lines = text.splitlines()
    kept = [lines[:1], [line for line in lines[1:] if not _POSITION.fullmatch(line.strip())]]
    return "\n".join(line for part in kept for line in part).rstrip()


def _last_step(path: str) -> str:
    # A store may lie anywhere, and in another one's path: the last one counts.
    if hashed := list(_HASHED.finditer(path)):
        return path[hashed[-1].end() :]
    last = path.rstrip("/.").rpartition("/")[2]
    return f"…/{last}" if last else path
