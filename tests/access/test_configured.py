"""The files that say who may pull what."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from nixery.access.configured import make_access, read_rules
from nixery.access.credentials import read_tokens
from nixery.access.htpasswd import read_passwords
from nixery.access.watched import FileInvalid, Watch, Watched, read_text
from nixery.model.access_files import AccessFiles
from nixery.model.rules import Patterns, Rules, Who

HIDDEN = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def fault(path: Path, text: str, kind: str) -> str:
    path.write_text(text)
    readers = {"htpasswd": read_passwords, "tokens": read_tokens, "rules": read_rules}
    with pytest.raises(FileInvalid) as caught:
        readers[kind](str(path))
    return str(caught.value)


def test_htpasswd(tmp_path: Path) -> None:
    """Users' bcrypt entries are read, comments and empty lines are not."""
    path = tmp_path / "htpasswd"
    path.write_text(f"# users\n\nalice:{HIDDEN}\nbob:{HIDDEN.replace('$2b$', '$2y$')}\r\n")
    assert set(read_passwords(str(path)).hidden) == {"alice", "bob"}
    assert read_passwords(str(path)).cost == 4
    assert HIDDEN not in repr(read_passwords(str(path)))


@pytest.mark.parametrize(
    "hidden", ["secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$apr1$x$y", "", "$2y$31$" + "a" * 53]
)
def test_other_entries(tmp_path: Path, hidden: str) -> None:
    """What is not by bcrypt, or would take for ever, is named, without the password."""
    said = fault(tmp_path / "f", f"bob:{HIDDEN}\nalice:{hidden}", "htpasswd")
    assert said.startswith("line 2: the password of 'alice'")
    assert not hidden or hidden not in said


def test_cheap_entries(tmp_path: Path) -> None:
    """Entries that are fast to guess are told of when the file is read first, when it is read
    again, and when it is only checked; of many, a few are named, and no entry is repeated."""
    path = tmp_path / "htpasswd"
    dear = HIDDEN.replace("$04$", "$10$")
    path.write_text(f"carol:{dear}\nalice:{HIDDEN}\n")
    reactor: Any = Clock()
    access = make_access(reactor, AccessFiles(htpasswd=str(path)))
    [watched] = access.watched
    expected = (
        f"{path}: bcrypt cost below 10, which is fast to guess: 'alice'; set these passwords "
        "again with htpasswd -B -C 12"
    )
    assert watched.remarks() == [expected]
    watch = Watch(reactor, access.watched)
    with capturedLogs() as captured:
        watch.startService()
        watch.stopService()
    assert [formatEvent(event) for event in captured] == [expected]
    path.write_text("".join(f"user{number}:{HIDDEN}\n" for number in range(1, 9)))
    with capturedLogs() as captured:
        watched.look(force=True)
    said = " ".join(formatEvent(event) or "" for event in captured)
    assert "'user1', 'user2', 'user3', 'user4', 'user5' and 3 more;" in said
    assert HIDDEN not in said
    path.write_text(f"carol:{dear}\n")
    watched.look(force=True)
    assert watched.remarks() == []


def test_tokens(tmp_path: Path) -> None:
    """A token is its user's; a file with a token itself is a fault that does not repeat it."""
    path = tmp_path / "tokens"
    path.write_text("ci:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n")
    tokens = read_tokens(str(path))
    assert (tokens.user_of(b"secret"), tokens.user_of(b"Secret")) == ("ci", None)
    assert (
        fault(path, "ci:my-token", "tokens") == "line 1 is not user:SHA-256 of a token (sha256sum)"
    )


def test_rules(tmp_path: Path) -> None:
    """Rules are read for everyone, for anonymous clients and for users."""
    path = tmp_path / "rules"
    path.write_text(
        '[everyone]\ndeny = ["a"]\n[anonymous]\nallow = []\n'
        '[users.alice]\nallow-tags = ["b"]\ndeny-tags = ["c"]\n'
    )
    alice = Patterns(allow_tags=("b",), deny_tags=("c",))
    assert read_rules(str(path)) == Rules(Patterns(deny=("a",)), Patterns(()), {"alice": alice})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[", "TOML"),
        ("[user.alice]", "'user'"),
        ("users = 1", "'users'"),
        ("[users]\nalice = 1", "'users.alice'"),
        ('[everyone]\ndenied = ["x"]', "'denied'"),
        ('[everyone]\ndeny = "x"', "'deny'"),
        ("[everyone]\ndeny = [1]", "'deny'"),
        ("a = " + "[" * 5000, "TOML"),
    ],
)
def test_what_is_no_rule(tmp_path: Path, text: str, named: str) -> None:
    """What is not understood is a fault: it might be what was to be denied."""
    assert named in fault(tmp_path / "rules", text, "rules")


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever is in a file, it is read, or a fault."""
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for read in (read_passwords, read_tokens, read_rules):
        with suppress(FileInvalid):
            read(str(path))


def test_faults_are_named_together(tmp_path: Path) -> None:
    """Every file that can't be used is named, with its path."""
    (tmp_path / "rules").write_text("[")
    files = AccessFiles(htpasswd="/no/such", rules=str(tmp_path / "rules"))
    with pytest.raises(ExceptionGroup) as caught:
        make_access(None, files)
    said = [str(each) for each in caught.value.exceptions]
    assert said[0] == "/no/such: No such file or directory"
    assert said[1].startswith(f"{tmp_path / 'rules'}: is not TOML")


def test_changes(tmp_path: Path) -> None:
    """A changed file counts once it has stayed the same; a broken one does not, and is logged."""
    path = tmp_path / "rules"
    path.write_text('[everyone]\ndeny = ["a"]')
    access = make_access(None, AccessFiles(rules=str(path)))
    (watched,) = access.watched
    before = watched.value
    path.write_text("")
    watched.look()
    assert watched.value is before
    path.write_text('[everyone]\ndeny = ["bb"]')
    watched.look()
    assert watched.value is before
    watched.look()
    assert not watched.value.allow(Who(), "bb", None)
    for broken in ("[", None):
        path.write_text(broken) if broken else path.unlink()
        with capturedLogs() as captured:
            for _ in range(4):
                watched.look()
        assert len([event for event in captured if "can't be used" in formatEvent(event)]) == 1
        assert not watched.value.allow(Who(), "bb", None)


def test_forced(tmp_path: Path) -> None:
    """What is read on demand counts at once; whatever goes wrong, what was known stays."""
    path = tmp_path / "file"
    path.write_text("1")
    watched = Watched([str(path)], lambda: 1 / int(read_text(str(path))))
    path.write_text("2")
    watched.look(force=True)
    assert watched.value == 0.5
    path.write_text("0")
    watched.look(force=True)
    assert watched.value == 0.5
