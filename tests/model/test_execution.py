"""What engines are told of running an image."""

import pytest

from nixery.model.closure import Root
from nixery.model.execution import default_command
from nixery.model.image import parse_image
from nixery.model.tree import Item, Kind, Output

OTHER = Item(Kind.OTHER)


def command_of(name: str, programs: list[str], main: str = "") -> tuple[str, ...]:
    """The command of an image of one package, which has some programs, and cacert."""
    image = parse_image(name, "latest")
    package = image.packages[0]
    roots = [Root("cacert", "cacert", "/c"), Root(package, package, "/p", program=main)]
    listing = {"bin": Item(Kind.FOLDER)} | {f"bin/{program}": OTHER for program in programs}
    outputs = [Output("cacert", "/c", {"bin/other": OTHER}), Output(package, "/p", listing)]
    return default_command(image, roots, outputs)


def test_shell_comes_first() -> None:
    """An image with a shell starts it, whatever else is named."""
    assert command_of("shell/jq", ["jq"]) == ("bash",)


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
