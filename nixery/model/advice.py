"""Advice for those whose image could not be made: pure."""

import re

import attrs

_MEANT = re.compile(r"did you mean (.+)\?", re.DOTALL)
_UNKNOWN = re.compile(r"there is no package '([^']*)'")
_PROGRAM = re.compile(r" \(it has the program [^)]*\)")


@attrs.frozen
class Advice:
    """The likely fix of a build that failed.

    :param text: a sentence or two.
    :param package: the name that should be another one; empty if that is not the fault.
    :param instead: names to put in its place, the likeliest first.
    """

    text: str
    package: str = ""
    instead: tuple[str, ...] = ()


# Words of Nix, nixpkgs and builders in a failure's message, and what to do; the first that fits.
_SAID = [
    (
        r"has an? unfree licen[sc]e|\bunfree\b",
        "The package set refuses packages with this licence. The operator can allow them: "
        '{"allowUnfree": true} in NIXERY_NIXPKGS_CONFIG.',
    ),
    (
        r"marked as broken",
        "The package set marks it as broken: name another version of the package, or a tag at "
        "which it works.",
    ),
    (
        r"marked as insecure|known (?:security )?vulnerabilit",
        "The package set refuses it for known vulnerabilities: name a newer version. The operator "
        "can permit it: permittedInsecurePackages in NIXERY_NIXPKGS_CONFIG.",
    ),
    (
        r"not available on the requested hostPlatform|not supported on|required to build",
        "It is not for this architecture: leave out arm64/, or name another package.",
    ),
    (
        r"hash mismatch|got: +sha256",
        "A file that the package is made of has changed since its digest was noted. A newer "
        "revision of the package set may know: name another tag.",
    ),
    (
        r"[Nn]o space left on device|disk is full",
        "There is no room left on the disk. Tell the operator, then pull again.",
    ),
    (
        r"[Uu]nable to download|[Cc]ould ?n.t resolve host|cannot connect|Connection refused",
        "Something could not be downloaded. Pull again later; if it stays so, tell the operator.",
    ),
    (r"^interrupted:", "The daemon ended meanwhile. Pull again."),
]

_LATER = "This may be over in a moment: pull again. If it stays so, tell the operator."
_SMALLER = "Name fewer packages. The operator can allow more: NIXERY_MAX_CLOSURE."
# Kinds of failures, as errors are called, and what to do where the message says nothing better.
BY_KIND = {
    "UnknownPackage": "It may have another name, or be in another set: search for it.",
    "NotAPackage": "Name a package that is in it, with a dot between: SET.PACKAGE.",
    "AmbiguousPackage": "Name the one that you mean as the message spells it.",
    "PackageUnnameable": "Only the package set's maintainers can give it another name.",
    "InterpretersDiffer": "Name all libraries from the set of one interpreter.",
    "EvaluationFailed": "The package set has an error here. It may be gone at another tag; else "
    "tell the set's maintainers.",
    "SystemUnsupported": "Leave out arm64/.",
    "UnknownTag": "Name another tag: the start page lists them.",
    "BuildFailed": "The end of the log has the reason. The package may build with another tag.",
    "BuildTimedOut": "The operator can give builders more time: NIX_TIMEOUT.",
    "ImageTimedOut": "Pull again: what is built is kept. The operator can give images more time: "
    "NIXERY_BUILD_TIMEOUT.",
    "MemoryExceeded": "Name fewer packages. The operator can allow more: NIXERY_NIX_MEMORY.",
    "ClosureTooLarge": _SMALLER,
    "TooManyFiles": _SMALLER,
    "PackingFailed": "Pull again; if it stays so, tell the operator.",
    **dict.fromkeys(
        [
            *("PackerKilled", "SourceUnavailable", "SourceChanged", "NixUnavailable"),
            *("StorageUnavailable", "ShuttingDown", "QueueFull"),
        ],
        _LATER,
    ),
    "StorageFull": "Tell the operator: NIXERY_STORAGE_MAX has the oldest images go by themselves.",
}


def advice(kind: str, message: str) -> Advice | None:
    """What to do about a build that failed.

    :param kind: the name of its error's class; empty if that is not known.
    :param message: the whole of it.
    """
    if (unknown := _UNKNOWN.search(message)) and kind in ("UnknownPackage", ""):
        meant = _MEANT.search(message)
        names = re.split(r", | or ", _PROGRAM.sub("", meant[1])) if meant else []
        text = "Similar names:" if names else BY_KIND["UnknownPackage"]
        return Advice(text, unknown[1], tuple(names))
    said = next((text for words, text in _SAID if re.search(words, message)), "")
    text = said or BY_KIND.get(kind, "")
    return Advice(text) if text else None
