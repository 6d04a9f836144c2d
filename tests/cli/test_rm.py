"""``nixery rm``."""

from tests.cli.fake_api import FakeApi, Run, refusal


def test_images_are_removed(run: Run, api: FakeApi) -> None:
    """Each image is removed once; the first that can't be ends the command."""
    api.answers["DELETE /api/images/git:latest"] = 204, b""
    ran = run("rm", "git", "git:latest")
    assert (ran.code, ran.out) == (0, "removed git:latest\n")
    api.answers["DELETE /api/images/jq:latest"] = 404, refusal("this registry has no jq")
    ran = run("rm", "git", "jq")
    assert (ran.code, ran.out, ran.err) == (
        *(3, "removed git:latest\n", "nixery: this registry has no jq\n"),
    )
