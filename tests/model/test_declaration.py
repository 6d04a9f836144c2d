"""What packages say of images."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.closure import Graph
from nixery.model.declaration import Declaration, parse_declaration
from nixery.model.package_errors import EvaluationFailed
from nixery.model.tree import File

PATH = f"/nix/store/{'a' * 32}-app-1.0"
GRAPH: Graph = {PATH: {"size": 1, "references": []}}


def test_all_that_can_be_said() -> None:
    """Every attribute of the documentation is understood."""
    said = {
        "entrypoint": [f"{PATH}/bin/app"],
        "cmd": ["--serve"],
        "env": {"B": "2", "A": "1"},
        "user": "app:1000",
        "workingDir": "/srv",
        "labels": {"org.example": "x"},
        "exposedPorts": [8080, "53/udp"],
        "volumes": ["/data"],
        "files": {"/etc/x": "text", "/etc/y": {"text": "", "mode": "0600"}},
    }
    assert parse_declaration("app", said) == Declaration(
        attribute="app",
        entrypoint=(f"{PATH}/bin/app",),
        command=("--serve",),
        environment={"A": "1", "B": "2"},
        user="app:1000",
        folder="/srv",
        labels={"org.example": "x"},
        ports=("8080/tcp", "53/udp"),
        volumes=("/data",),
        files={"/etc/x": File("text"), "/etc/y": File("", 0o600)},
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "app.passthru.image must be a set"),
        ({"entrypiont": []}, "'entrypiont'; did you mean entrypoint?"),
        ({"cmd": "run it"}, "app.passthru.image.cmd must be a list of strings"),
        ({"cmd": [1]}, "cmd must be"),
        ({"cmd": ["a\0b"]}, "cmd must be"),
        ({"env": {"A=B": "x"}}, "env must be"),
        ({"env": {"A": 1}}, "env must be"),
        ({"env": ["A=1"]}, "env must be"),
        ({"user": "root; x"}, "user must be"),
        ({"user": 1000}, "user must be"),
        ({"workingDir": "srv"}, "workingDir must be an absolute path"),
        ({"workingDir": "/a/../b"}, "workingDir must be"),
        ({"exposedPorts": [0]}, "exposedPorts must be"),
        ({"exposedPorts": [70000]}, "exposedPorts must be"),
        ({"exposedPorts": ["80/sctp "]}, "exposedPorts must be"),
        ({"volumes": ["/nix/store"]}, "volumes must be"),
        ({"files": {"etc/x": ""}}, "files must be"),
        ({"files": {"/dev/x": ""}}, "files must be"),
        ({"files": {"/x/./y": ""}}, "files must be"),
        ({"files": {"/etc/.wh.passwd": ""}}, "files must be"),
        ({"files": {"/" + "ä" * 128: ""}}, "files must be"),
        ({"volumes": ["/" + "x" * 256]}, "volumes must be"),
        ({"workingDir": "/x" * 2048}, "workingDir must be"),
        ({"files": {"/x": {"txt": ""}}}, "files must be"),
        ({"files": {"/x": {"text": "", "mode": "4755"}}}, "files must be"),
        ({"labels": {"": "x"}}, "labels must be"),
        ({"files": {"/x": "x" * 100_001}}, "more than 100,000 characters"),
    ],
)
def test_what_is_wrong_is_named(said: Any, words: str) -> None:
    """What is not as it should be is refused, by the name of its attribute."""
    with pytest.raises(EvaluationFailed, match=r"app\.passthru\.image") as caught:
        parse_declaration("app", said)
    assert words in caught.value.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "mode", "A", "/x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["entrypoint", "cmd", "env", "user", "workingDir", "labels", "exposedPorts", "volumes", "files"]
)


@given(VALUES | st.dictionaries(NAMES, VALUES, max_size=3))
def test_any_value_is_understood_or_refused(said: Any) -> None:
    """Whatever a set says, it is read, or refused as an evaluation that failed."""
    with suppress(EvaluationFailed):
        assert parse_declaration("app", said).attribute == "app"


def test_paths_are_in_the_image() -> None:
    """A store path that the package does not need is refused by its name."""
    parse_declaration("app", {"cmd": [f"{PATH}/bin/app"]}).check_paths(GRAPH)
    stray = f"x {PATH}-more/bin/y"
    with pytest.raises(EvaluationFailed, match=r"refers to app-1\.0-more"):
        parse_declaration("app", {"env": {"A": stray}}).check_paths(GRAPH)
