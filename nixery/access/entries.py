"""Text files of one entry a line."""

from nixery.access.watched import FileInvalid

_LARGEST = 16_000_000  # bytes


def read_text(path: str) -> str:
    """The text of a file of a sensible size. Blocks.

    :raises FileInvalid: if it is too large, or not UTF-8.
    :raises OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise FileInvalid(f"has more than {_LARGEST} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise FileInvalid("is not UTF-8") from None


def read_lines(path: str) -> list[tuple[int, str]]:
    """The lines of a file with their numbers, without empty lines and comments. Blocks.

    :raises FileInvalid: if it is too large, or not UTF-8.
    :raises OSError: if it can't be read.
    """
    lines = enumerate(read_text(path).split("\n"), 1)
    kept = ((number, line.strip()) for number, line in lines)
    return [(number, line) for number, line in kept if line and not line.startswith("#")]
