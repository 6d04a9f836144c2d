"""What twistd loads of Nixery: its options and its service.

Before it loads them, it looks whether there is all that they import.
"""

import sys

try:
    from nixery import requirements

    FAULTS = requirements.faults()
except ImportError as error:
    name = (error.name or "").partition(".")[0]
    # PyPI may have something else of our own name.
    what = "the checkout it is in" if name == "nixery" else f"'{name}'"
    FAULTS = [f"the library {name} is missing; pip install {what}"]

if FAULTS:
    for fault in FAULTS:
        print(f"nixery: {fault}", file=sys.stderr)
    raise SystemExit(1)

from nixery.tap import Options, makeService

__all__ = ["Options", "makeService"]
