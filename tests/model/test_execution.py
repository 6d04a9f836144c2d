"""How containers of an image are run."""

from typing import Any

import pytest

from nixery.model.closure import Realisation, Root
from nixery.model.execution import Execution, furnish
from nixery.model.identity import Identity
from nixery.model.image import parse_image
from nixery.model.rootfs import RootFs
from nixery.model.tree import File, Item, Kind, Output

PROGRAM = Item(Kind.OTHER)


def furnished(
    name: str, programs: list[str], main: str = "", **said: dict[str, Any]
) -> tuple[RootFs, Execution]:
    """An image whose packages have the same programs, beside cacert.

    :param said: package → what it says of images.
    """
    image = parse_image(name, "latest")
    listing = {"bin": Item(Kind.FOLDER)} | {f"bin/{program}": PROGRAM for program in programs}
    roots = [
        Root(package, package, f"/{package}", program=main, said=said.get(package))
        for package in image.packages
    ]
    outputs = [Output(root.package, root.path, listing) for root in roots]
    roots.append(Root("cacert", "cacert", "/cacert"))
    outputs.append(Output("cacert", "/cacert", {"bin/other": PROGRAM}))
    identity = Identity(image.name, "7" * 40)
    return furnish(image, Realisation(tuple(roots), {}, "", False), outputs, identity)


def command_of(name: str, programs: list[str], main: str = "") -> tuple[str, ...]:
    return tuple(furnished(name, programs, main)[1].command)


def test_shell_comes_first() -> None:
    """An image with a shell starts it, whatever else is named."""
    assert command_of("shell/jq", ["jq"]) == ("bash",)
    assert command_of("ci/jq", ["jq"]) == ("bash",)


def test_the_main_program() -> None:
    """A package that is named alone is run by the program that it says is its main one."""
    assert command_of("two", ["one", "two"], main="two") == ("two",)


def test_the_only_program() -> None:
    """A package that says nothing is run by its only program; what wrappers hide is none."""
    assert command_of("jq", ["jq"]) == ("jq",)
    assert command_of("jq", ["jq", ".jq-wrapped"]) == ("jq",)


@pytest.mark.parametrize(
    ("name", "programs", "main"),
    [
        ("two", ["one", "two"], ""),
        ("none", [], ""),
        ("lost", [], "lost"),
        ("evil", ["a", "b"], "../a"),
        ("git/jq", ["git"], "git"),
    ],
)
def test_no_command(name: str, programs: list[str], main: str) -> None:
    """Where no program suggests itself, or the main one is not there, there is no command."""
    assert command_of(name, programs, main) == ()


@pytest.mark.parametrize(
    ("name", "programs", "main", "shown"),
    [
        ("git/jq", ["git", "jq", "git-shell"], "", ("git", "jq")),
        ("two", ["one", "two"], "one", ("one",)),
        ("many", [*"dcba", ".a-wrapped"], "", ("a", "b", "c")),
        ("shell/jq", ["jq", "bash"], "", ("jq",)),
        ("shell", ["bash"], "", ()),
        ("lost", [], "lost", ()),
        ("odd", ["a\nb", "\udcff", "c"], "", ("c",)),
        ("/".join("abcdefghijkl"), [*"abcdefghijkl"], "", tuple("abcdefghij")),
    ],
)
def test_programs_to_run_by_name(
    name: str, programs: list[str], main: str, shown: tuple[str, ...]
) -> None:
    """Of each package that was named, its main program is shown, the one of its name, or a few;
    none that is not there, and none of meta-packages."""
    assert furnished(name, programs, main)[1].programs == shown


SAID = {
    **{"entrypoint": ["/bin/serve"], "user": "app", "workingDir": "/srv"},
    **{"env": {"A": "1", "PATH": "/x"}, "exposedPorts": [80], "files": {"/etc/a": "a"}},
}


def test_a_package_named_alone_says_how_it_is_run() -> None:
    """Its entry point, user and working directory are the image's, and its variables win."""
    rootfs, execution = furnished("app", ["app"], app=SAID)
    assert (execution.entrypoint, execution.command) == (("/bin/serve",), ())
    assert (execution.user, execution.folder) == ("app", "/srv")
    assert execution.environment["PATH"] == "/x"
    assert execution.ports == ["80/tcp"]
    assert rootfs.entries["etc/a"] == File("a")


def test_among_others_a_package_says_what_it_needs() -> None:
    """Beside others, variables and files come along, and how to run it does not; of two words
    for one thing that of the first package counts."""
    other = {"env": {"A": "2", "B": "2"}, "files": {"/etc/a": "b"}}
    for name in ("app/other", "shell/app/other"):
        rootfs, execution = furnished(name, ["app", "b"], app=SAID, other=other)
        assert not execution.entrypoint
        assert (execution.user, execution.folder) == ("", "")
        assert {"A": "1", "B": "2"}.items() <= execution.environment.items()
        assert rootfs.entries["etc/a"] == File("a")


def test_programs_that_a_user_installs() -> None:
    """Where an image has Nix, what its user installs is found, before the image's own."""
    for name, home in (("nix", "/root"), ("user/nix", "/home/user")):
        _, execution = furnished(name, ["nix", "nix-store"])
        assert execution.environment["PATH"].startswith(f"{home}/.nix-profile/bin:/usr/local/sbin:")


def test_an_ordinary_user() -> None:
    """The meta-package ``user`` has containers run as user 1000, in a home of its own."""
    _, execution = furnished("user/git", ["git"])
    assert (execution.user, execution.folder) == ("1000:1000", "/home/user")
    assert execution.command == ("git",)
