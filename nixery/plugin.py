"""The module that twistd loads: options and service, after a check of the installed libraries.

``tap`` imports the libraries, and a missing one would end the start in a traceback.
"""

import gc
import sys

try:
    gc.disable()  # imports leave next to no garbage, and the search for it takes a tenth of them
    from nixery import requirements

    FAULTS = requirements.faults()
except ImportError as error:
    name = (error.name or "").partition(".")[0]
    if name == "nixery":
        # PyPI may have another package of this name.
        FAULTS = ["nixery is not installed; run 'pip install .' in its checkout"]
    else:
        FAULTS = [f"the library {name} is missing; pip install '{name}'"]

if FAULTS:
    for fault in FAULTS:
        print(f"nixery: {fault}", file=sys.stderr)
    raise SystemExit(1)

from nixery.tap import Options, makeService

gc.freeze()  # what was imported stays
gc.enable()

__all__ = ["Options", "makeService"]
