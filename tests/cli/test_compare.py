"""``nixery compare``."""

import json

from tests.cli.fake_api import FakeApi, Run, image
from tests.cli.test_show import INSIDE, STORE

GIT, JQ = "GET /api/images/git:latest", "GET /api/images/jq:latest"


def test_what_differs(run: Run, api: FakeApi) -> None:
    """Store paths that came, went and changed are told, and the bytes of layers to pull."""
    other = {
        **INSIDE,
        "paths": [
            {"path": f"{STORE}-jq-1.6", "size": 1},
            {"path": f"{STORE}-glibc-2.37", "size": 2},
        ],
        "layers": [INSIDE["layers"][0], {"digest": "sha256:cc", "size": 5_000, "paths": []}],
    }
    api.answers[GIT] = 200, image("git", contents=INSIDE)
    api.answers[JQ] = 200, image("jq", contents=other)
    ran = run("compare", "git", "jq")
    assert ran.code == 5
    assert [line.split() for line in ran.out.splitlines()[1:4]] == [
        ["removed", "git", "2.39.5"],
        ["upgraded", "glibc", "2.36", "2.37"],
        ["added", "jq", "1.6"],
    ]
    assert "pulls 5.0 kB for jq:latest" in ran.out
    found = json.loads(run("compare", "git", "jq", "--json").out)
    assert (found["same"], found["pull"], len(found["changes"])) == (False, 5000, 3)


def test_the_same(run: Run, api: FakeApi) -> None:
    """An image is the same as itself."""
    api.answers[GIT] = 200, image("git", contents=INSIDE)
    ran = run("compare", "git", "git")
    assert (ran.code, ran.out.splitlines()[-1]) == (
        *(0, "the same image; a client that has git:latest pulls 0 B for git:latest"),
    )


def test_an_older_image(run: Run, api: FakeApi) -> None:
    """Of an image whose contents nobody wrote down, that is said."""
    api.answers[GIT] = 200, image("git", contents=None)
    ran = run("compare", "git", "git")
    assert ran.code == 1
    assert "not known what is in git" in ran.err
