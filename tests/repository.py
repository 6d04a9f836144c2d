"""Git repositories for tests."""

import os
import subprocess
from pathlib import Path

IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "n"), ("EMAIL", "e@example.com"))
}


class Repository:
    """A git repository with a work tree in a folder."""

    def __init__(self, folder: Path, object_format: str = "sha1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.git("init", "-q", "-b", "main", f"--object-format={object_format}")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *arguments: str, input_text: str | None = None, **environ: str) -> str:
        """What a command of git prints."""
        done = subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            check=True,
            capture_output=True,
            text=True,
            input=input_text,
            env={**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null", **environ},
        )
        return done.stdout.strip()

    def commit(self, text: str, when: int | None = None) -> str:
        """Commit another ``default.nix``.

        :param when: seconds since 1970; now if it isn't given.
        """
        (self.folder / "default.nix").write_text(text)
        self.git("add", "-A")
        date = {} if when is None else {"GIT_COMMITTER_DATE": f"@{when} +0000"}
        self.git("commit", "-q", "--allow-empty", "-m", text[:20] or "empty", **date)
        return self.git("rev-parse", "HEAD")
