"""The files that say who may pull what, and the guard that is made of them."""

import tomllib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from nixery.access.api_token import read_secret
from nixery.access.credentials import Credentials, Tokens, read_tokens
from nixery.access.guard import Guard
from nixery.access.htpasswd import Passwords, read_passwords
from nixery.access.passwords import PasswordChecker
from nixery.access.watched import FileInvalid, Watched, read_text
from nixery.model.access_files import AccessFiles
from nixery.model.rules import NOTHING_SAID, Patterns, Rules

if TYPE_CHECKING:
    from nixery.access.jwt import TokenVerifier

T = TypeVar("T")

_NO_TOKENS = Tokens({})
_KEYS = {"allow": "allow", "deny": "deny", "allow-tags": "allow_tags", "deny-tags": "deny_tags"}


@attrs.frozen
class Access:
    """A guard, and the files that it depends on.

    :param api_token: gives the token of operators, if a file was named.
    :param webhook_secret: gives the secret of the source's forge, if a file was named.
    :param notify_secret: gives the secret that notifications are signed by, if a file was named.
    """

    guard: Guard
    watched: list[Watched[Any]]
    api_token: Callable[[], str] | None = None
    webhook_secret: Callable[[], str] | None = None
    notify_secret: Callable[[], str] | None = None


def make_access(reactor: Any, files: AccessFiles) -> Access:
    """Read all files. Blocks.

    :param reactor: an :class:`nixery.reactor.IReactor`; None to only check the files.
    :raises ExceptionGroup: of a :class:`FileInvalid` for each that can't be used.
    """
    faults: list[FileInvalid] = []
    watched: list[Watched[Any]] = []

    def watch(
        path: str | None,
        read: Callable[[str], T],
        remark: Callable[[T], Sequence[str]] = lambda value: (),
    ) -> Callable[[], T] | None:
        if path is None:
            return None
        try:
            one = Watched([path], lambda: read(path), remark)
        except FileInvalid as fault:
            faults.append(FileInvalid(f"{path}: {fault}"))
            return None
        watched.append(one)
        return lambda: one.value

    def verifier(path: str) -> "TokenVerifier":
        # Cryptography takes time and memory.
        from nixery.access.jwt import TokenVerifier, read_keys

        return TokenVerifier(read_keys(path), files.jwt_audience or "", files.jwt_issuer)

    passwords = watch(files.htpasswd, read_passwords, Passwords.remarks)
    tokens = watch(files.tokens, read_tokens)
    verifiers = watch(files.jwt_key, verifier)
    rules = watch(files.rules, read_rules)
    api_token = watch(files.api_token, read_secret)
    webhook_secret = watch(files.webhook_secret, read_secret)
    notify_secret = watch(files.notify_secret, read_secret)
    if faults:
        raise ExceptionGroup("files that can't be used", faults)
    credentials = None
    if passwords or tokens or verifiers:
        credentials = Credentials(
            PasswordChecker(reactor, passwords) if passwords else None,
            tokens or (lambda: _NO_TOKENS),
            verifiers or (lambda: None),
        )
    guard = Guard(credentials, rules)
    return Access(guard, watched, api_token, webhook_secret, notify_secret)


def read_rules(path: str) -> Rules:
    """Read a file of rules, in TOML. Blocks.

    :raises FileInvalid: naming everything that is not understood: it might be a rule that denies.
    :raises OSError: if it can't be read.
    """
    try:
        document = tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileInvalid(f"is not TOML: {error}") from None
    faults: list[str] = []
    users = document.pop("users", {})
    if not isinstance(users, dict):
        faults.append("'users' is not a table of tables")
        users = {}
    everyone = _patterns("everyone", document.pop("everyone", None), faults)
    anonymous = _patterns("anonymous", document.pop("anonymous", None), faults)
    named = {name: _patterns(f"users.{name}", each, faults) for name, each in users.items()}
    faults += [f"{name!r} is neither 'everyone', 'anonymous' nor 'users'" for name in document]
    if faults:
        raise FileInvalid("; ".join(faults))
    patterns = {name: each for name, each in named.items() if each is not None}
    return Rules(everyone or NOTHING_SAID, anonymous, patterns)


def _patterns(name: str, table: Any, faults: list[str]) -> Patterns | None:
    if table is None:
        return None
    if not isinstance(table, dict):
        faults.append(f"{name!r} is not a table")
        return None
    for key, value in table.items():
        if key not in _KEYS:
            faults.append(f"{name!r} has an unknown key {key!r}; known are {', '.join(_KEYS)}")
        elif not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            faults.append(f"{key!r} of {name!r} is not a list of patterns")
            return None
    return Patterns(**{_KEYS[key]: tuple(table[key]) for key in table if key in _KEYS})
