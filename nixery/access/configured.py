"""The files that say who may pull what, and the guard that is made of them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs

from nixery.access.credentials import Credentials
from nixery.access.guard import Guard
from nixery.access.htpasswd import Passwords, read_passwords
from nixery.access.jwt import Verifier, read_keys
from nixery.access.passwords import PasswordChecker
from nixery.access.rules_file import read_rules
from nixery.access.tokens import Tokens, read_tokens
from nixery.access.watched import FileInvalid, Watched
from nixery.model.access_files import AccessFiles

T = TypeVar("T")


@attrs.frozen
class Access:
    """A guard, and the files that it looks at."""

    guard: Guard
    watched: list[Watched[Any]]


def make_access(reactor: Any, files: AccessFiles) -> Access:
    """Read all files. Blocks.

    :param reactor: provides time and threads.
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

    def verifier(path: str) -> Verifier:
        return Verifier(read_keys(path), files.jwt_audience or "", files.jwt_issuer)

    passwords = watch(files.htpasswd, read_passwords, Passwords.remarks)
    tokens = watch(files.tokens, read_tokens)
    verifiers = watch(files.jwt_key, verifier)
    rules = watch(files.rules, read_rules)
    if faults:
        raise ExceptionGroup("files that can't be used", faults)
    credentials = None
    if passwords or tokens or verifiers:
        credentials = Credentials(
            PasswordChecker(reactor, passwords) if passwords else None,
            tokens or (lambda: _NO_TOKENS),
            verifiers or (lambda: None),
        )
    return Access(Guard(credentials, rules), watched)


_NO_TOKENS = Tokens({})
