"""Closures as Nix prints them."""

import json

import pytest

from nixery.model.closure import Graph, closure_size, is_store_path, parse_path_info, store_name

A = "/nix/store/" + "a" * 32 + "-a-1.0"
B = "/nix/store/" + "b" * 32 + "-b-2.0.drv-source"

HASH = "sha256-EFUdrtf6Rn0LWIJufrmg8q99aT3jGfLvd1//zaJEufY="
INFO = {
    A: {
        **{"narSize": 10, "references": [A, B], "narHash": HASH, "deriver": f"{A}.drv"},
        **{"signatures": ["x-1:abc", "a-1:def"], "ultimate": True},
    },
    B: {
        **{"narSize": 20, "references": [], "narHash": {"algorithm": "sha256"}},
        **{"deriver": "unknown-deriver", "signatures": [{"key": "x-1"}], "ultimate": False},
    },
}
FORMS = {
    "2.8": [{"path": path, **info} for path, info in INFO.items()],
    "2.19": INFO,
    "format 2": {
        "version": 2,
        "info": {
            path[11:]: {**info, "references": [r[11:] for r in info["references"]]}  # type: ignore[attr-defined]
            for path, info in INFO.items()
        },
    },
}


def test_closure_sizes() -> None:
    """A path's closure is all that it reaches, each counted once."""
    graph: Graph = {
        "a": {"size": 1, "references": ["b", "c"]},
        "b": {"size": 10, "references": ["d"]},
        "c": {"size": 100, "references": ["d"]},
        "d": {"size": 1000, "references": []},
        "e": {"size": 10_000, "references": ["a"]},
    }
    sizes = {path: closure_size(graph, path) for path in graph}
    assert sizes == {
        "a": (4, 1111),
        "b": (2, 1010),
        "c": (2, 1100),
        "d": (1, 1000),
        "e": (5, 11_111),
    }


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_gives_the_same_graph(form: str) -> None:
    """The closure is the same from every version's form, and without self-references; a fact that
    has another form is left out."""
    assert parse_path_info(json.dumps(FORMS[form])) == {
        A: {
            **{"size": 10, "references": [B], "hash": HASH, "deriver": f"{A}.drv"},
            **{"signers": ["a-1", "x-1"], "built": True},
        },
        B: {"size": 20, "references": []},
    }


@pytest.mark.parametrize(
    "document",
    [
        "3",
        "[]x",
        json.dumps({A: {"narSize": 1, "references": [B]}}),
        json.dumps({"/etc/passwd": {"narSize": 1, "references": []}}),
        json.dumps({A + "/../x": {"narSize": 1, "references": []}}),
        json.dumps({A: None}),
        json.dumps({A: {"narSize": 1}}),
        json.dumps([{"narSize": 1, "references": []}]),
        json.dumps([3]),
        "[" * 100_000,
    ],
)
def test_anything_else_is_refused(document: str) -> None:
    """Another form, an open closure, and paths outside the store are errors."""
    with pytest.raises(ValueError, match=r".+"):
        parse_path_info(document)


def test_names() -> None:
    """A store path's name is what stands after the hash."""
    assert store_name(A) == "a-1.0"
    assert store_name("/nix/store/" + "c" * 32 + "-x-1.drv") == "x-1"
    assert is_store_path(A)
    assert not is_store_path(A + "/bin")
    assert not is_store_path("/nix/store/short-a")
