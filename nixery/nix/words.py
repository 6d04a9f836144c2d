"""What Nix says, as people are told it: pure."""

import re

_ENDS = 10_000  # characters
# Newer versions say what was wrong behind the trace; 2.8 says it in the first line.
_BEHIND_TRACE = re.compile(r"\Aerror:[ ]*\n.*?^[ ]*(error: .*)", re.DOTALL | re.MULTILINE)


def first_words(text: str) -> str:
    """The message of an error: without its mark, its trace and its source excerpts."""
    lines: list[str] = []
    if behind := _BEHIND_TRACE.match(text):
        text = text[behind.start(1) :]
    for line in text.removeprefix("error:").splitlines():
        stripped = line.strip()
        if stripped.startswith(("…", "at ", "(use '--show-trace'")) and lines:
            break
        if stripped in ("error:", "error", "") and not lines:
            continue
        lines.append(stripped.removeprefix("error: "))
    return printable("\n".join(lines).strip())


def printable(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def ends(text: str) -> str:
    """A text without the middle, if it is long: the message stands at one of its ends."""
    if len(text) <= 2 * _ENDS:
        return text
    return f"{text[:_ENDS]}\n…\n{text[-_ENDS:]}"
