"""Names that someone may have meant."""

import difflib
from collections.abc import Sequence

_MOST = 3
_LIKENESS = 0.6  # difflib's own default: below it, suggestions look random


def nearest_names(name: str, names: Sequence[str]) -> list[str]:
    """Those of some names that are most like one, without regard to case, likeliest first.

    Names that only add something to it (``python`` → ``python3``) count as likely.
    It takes up to a second for all of nixpkgs: not for the reactor's thread.
    """
    lowered: dict[str, str] = {}
    for known in sorted(names, key=lambda n: (len(n), n)):
        lowered.setdefault(known.lower(), known)
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, lowered, _MOST, _LIKENESS)
    longer = [key for key in lowered if key.startswith(wanted)][:_MOST]
    return [lowered[key] for key in dict.fromkeys([*close, *longer])][:_MOST]
