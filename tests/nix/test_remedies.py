"""What to do where Nix can't build."""

import pytest

from nixery.nix.remedies import (
    SWITCHES,
    allow_namespaces,
    builds_nothing,
    lacks_namespaces,
    with_remedy,
)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("error: cloning builder process: Operation not permitted", "allow this user namespaces"),
        ("error: mounting /proc: Operation not permitted", "allow this user namespaces"),
        (
            "error: this system does not support the kernel namespaces that are required for "
            "sandboxing; use '--no-sandbox' to disable sandboxing",
            "allow this user namespaces",
        ),
        (
            "error: builder for '/nix/store/x.drv' failed to produce output path for output 'out'",
            "allow this user namespaces",
        ),
        (
            "error: the group 'nixbld' specified in 'build-users-group' does not exist",
            "NIX_CONFIG='build-users-group ='",
        ),
        (
            "error: cannot connect to daemon at '/nix/var/nix/daemon-socket/socket': refused",
            "systemctl start nix-daemon",
        ),
        ("error: creating directory '/nix/var': Permission denied", "NIXERY_NIX_STORE"),
        ("error: something new", "Nix can't build here: something new"),
    ],
)
def test_each_has_its_remedy(text: str, remedy: str) -> None:
    """What Nix says is repeated, and followed by what to do, as far as it is known."""
    said = text.removeprefix("error: ")
    words = with_remedy(said, text, {}, own_store=False)
    assert said in words
    assert remedy in words


def test_what_the_kernel_says() -> None:
    """Those settings of the kernel are named that forbid namespaces, with values that do not."""
    closed = {name: forbids for name, (forbids, _) in SWITCHES.items()}
    opened = {name: allows for name, (_, allows) in SWITCHES.items()}
    words = allow_namespaces(closed)
    assert all(f"{name}={allows}" in words for name, allows in opened.items())
    assert "sysctl" not in allow_namespaces(opened)
    assert "docker run" in allow_namespaces({})


def test_kinds() -> None:
    """A machine without namespaces is told from an operator who wants nothing built."""
    assert builds_nothing("error: unable to start any build; either increase '--max-jobs'")
    assert not lacks_namespaces("error: unable to start any build; either increase '--max-jobs'")
    assert not builds_nothing("error: unable to start build process")
    # of newer versions of Nix
    assert builds_nothing("Unable to start any build;\nremote machines may not have all features")
