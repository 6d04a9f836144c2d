"""What to do about builds that failed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.http.answers import TABLE
from nixery.model.advice import BY_KIND, Advice, advice
from nixery.model.package_errors import UnknownPackage
from nixery.model.suggestions import Suggestion

# Errors that no build ends with: requests are refused for them, or verifications end so.
OF_REQUESTS = {
    *("NameInvalid", "TagInvalid", "DigestInvalid", "RangeInvalid", "Unauthorized", "Denied"),
    *("TooManyAttempts", "CommitNotServed", "TooManyTags", "TagNotServed", "ManifestUnknown"),
    *("BlobUnknown", "ImageInvalid", "NoRoomToWait", "TooMuchUnread"),
    "OtherRegistryUnavailable",
}


def test_every_kind_of_failure() -> None:
    """There is advice on every error that a build can end with."""
    assert {error.__name__ for error in TABLE} - OF_REQUESTS <= set(BY_KIND)
    assert set(BY_KIND) <= {error.__name__ for error in TABLE}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Package ‘x’ has an unfree license (‘unfree’), refusing to evaluate.", "allowUnfree"),
        ("Package ‘x-1’ in x.nix:1 is marked as broken, refusing to evaluate.", "broken"),
        ("Package ‘x’ is marked as insecure, refusing to evaluate", "vulnerabilities"),
        ("is not available on the requested hostPlatform:", "arm64/"),
        ("hash mismatch in fixed-output derivation 'x':", "digest"),
        ("x failed to build: …; the end of its log:\ncp: No space left on device", "room"),
        ("unable to download 'https://x': Couldn't resolve host name", "download"),
        ("interrupted: the daemon ended while the image was made", "Pull again"),
    ],
)
def test_what_tools_say(message: str, words: str) -> None:
    """What nixpkgs, Nix and builders say of a failure counts more than its kind."""
    for kind in ("EvaluationFailed", "BuildFailed", ""):
        told = advice(kind, message)
        assert told is not None
        assert words in told.text


@pytest.mark.parametrize("meant", [(), ("git",), ("git", "jq"), ("git", "jq", "a.b")])
@pytest.mark.parametrize("program", ["", "gti"])
def test_names_that_may_be_meant(meant: tuple[str, ...], program: str) -> None:
    """The names that an error suggests can go in place of the one that is unknown."""
    hints = [Suggestion(name, program) for name in meant]
    told = advice("UnknownPackage", str(UnknownPackage("gti", meant=hints)))
    assert told is not None
    assert (told.package, told.instead) == ("gti", meant)


@given(st.text(), st.text())
def test_any_text(kind: str, message: str) -> None:
    """Whatever a message says, there is advice or there is none."""
    assert isinstance(advice(kind, message), Advice | None)
