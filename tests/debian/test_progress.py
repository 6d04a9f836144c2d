"""How far several things are that are made at the same time."""

import io

from progress import Progress


def test_every_line_tells_of_all() -> None:
    """The last line that was printed is enough to know how far everything is."""
    file = io.StringIO()
    progress = Progress(file)
    progress("b", "begun")
    progress("a", "begun")
    progress("b", "done")
    assert file.getvalue().splitlines() == ["b: begun", "a: begun; b: begun", "a: begun; b: done"]
