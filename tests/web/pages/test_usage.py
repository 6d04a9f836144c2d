"""The commands that use an image."""

import pytest
from twisted.web.template import flattenString

from nixery.web.pages.usage import Usage, usage_tabs
from tests.web.pages.browsing import Elements

REFERENCE = "h:1/git"


def test_what_is_known() -> None:
    """Only what an image can do is shown: its ways to run, a pod that goes on, a shell."""
    usage = Usage(REFERENCE)
    assert usage.engine("docker") == [("Pull it", "docker pull h:1/git")]
    assert [text for _, text in usage.kubernetes()] == [
        "containers:\n  - name: tools\n    image: h:1/git"
    ]
    usage = Usage(REFERENCE, (" git", " 'a b'"), True, "bash")
    assert [text for does, text in usage.engine("podman") if does == "Run it"] == [
        "podman run --rm -ti h:1/git git",
        "podman run --rm -ti h:1/git 'a b'",
    ]
    assert usage.kubernetes()[0][1].endswith("command: [sleep, infinity]")
    assert usage.kubernetes()[1][1] == "kubectl debug -ti POD --image=h:1/git -- bash"
    assert usage.dockerfile() == [("Build on it", "FROM h:1/git")]


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_plain_http(program: str) -> None:
    """podman has to be told of plain HTTP in its commands; docker is in its settings."""
    commands = [text for _, text in Usage(REFERENCE, ("",), over_http=True).engine(program)]
    assert all(("--tls-verify=false" in text) == (program == "podman") for text in commands)


def test_tabs_without_scripts() -> None:
    """One of the tabs is open, each has a label, and each command names what it does."""
    parts: list[bytes] = []
    flattenString(None, usage_tabs(Usage(REFERENCE, ("",)))).addCallback(parts.append)
    elements = Elements(parts[0].decode())
    choices = elements.of("input")
    assert [choice["value"] for choice in choices] == [
        "docker",
        "podman",
        "Kubernetes",
        "Dockerfile",
    ]
    assert [choice for choice in choices if "checked" in choice] == choices[:1]
    assert [each["for"] for each in elements.of("label")] == [choice["id"] for choice in choices]
    groups = [each["aria-label"] for each in elements.of("div") if each.get("role") == "group"]
    assert len(set(groups)) == len(groups) == len(elements.of("pre"))
