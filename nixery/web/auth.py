"""Credentials over HTTP: authentication, the challenge, and tokens for docker.

Clients ask ``/v2/`` first, and what they do with a challenge depends on its scheme. Without
credentials of its own, docker gives up at ``Basic``, and where it is not challenged at once it
never sends any. So where anonymous clients may pull something and users may log in, the challenge
is ``Bearer``, with a token for either to be had here, at ``/token``.
https://distribution.github.io/distribution/spec/auth/token/
"""

import re
from collections.abc import Callable

import attrs
from twisted.logger import Logger

from nixery.access.credentials import ANONYMOUS_TOKEN, is_empty, wrapped
from nixery.access.guard import Guard
from nixery.http.answers import describe_json
from nixery.http.request import RegistryRequest
from nixery.model.errors import NixeryError
from nixery.model.image import Image
from nixery.model.package_errors import NotAPackage, UnknownPackage
from nixery.model.request_errors import Denied, NameInvalid, Unauthorized
from nixery.model.rules import ANONYMOUS, Who

_log = Logger()

_LIFETIME = 300  # seconds, after which clients ask for another token
_NAME = re.compile(r"[a-z0-9._/-]{1,255}")
_UNCLEAR = "a request must have only one Authorization header"
_TOKEN = "anonymous clients must request a token"


@attrs.frozen
class TokenServer:
    """A server from which clients get tokens.

    :param realm: its URL.
    :param service: what it calls this registry.
    """

    realm: str
    service: str


class Auth:
    """Authenticates requests, and permits them what their sender may pull."""

    def __init__(self, guard: Guard, token_server: TokenServer | None = None) -> None:
        """
        :param token_server: where tokens are to be had; none if not elsewhere.
        """
        self._guard = guard
        self._token_server = token_server

    @property
    def is_open(self) -> bool:
        """Whether there are no credentials, so that all clients are anonymous."""
        return self._guard.credentials is None

    @property
    def is_selective(self) -> bool:
        """Whether somebody who may pull something may not pull everything."""
        return self._guard.is_selective

    def files(self) -> tuple[object, ...]:
        """The contents that decide about access: see :meth:`nixery.access.guard.Guard.files`."""
        return self._guard.files()

    def keep(self, request: RegistryRequest, again: Callable[[], bool]) -> None:
        """Have the answer to a request kept for as long as its sender may have it.

        :param again: says whether it still holds apart from that; if so, it is about to be given
            again.
        """
        files, current = request.access, self._guard.files
        # Where there are no files, nothing changes.
        request.keep((lambda: current() == files and again()) if any(files) else again)

    async def identify(self, request: RegistryRequest) -> None:
        """Authenticate the sender of a request.

        :raises Unauthorized: if the client may have nothing here, or its credentials are invalid.
        :raises TooManyAttempts: if the client has tried too many wrong passwords.
        """
        try:
            who = await self._who(request)
            if not request.route.token or self._token_server is not None:
                self._guard.admit(who)
        except Unauthorized:
            self._challenge(request)
            if _sent(request):
                _log.info("{client}: credentials were refused", client=request.sender)
            raise
        request.who = who

    def greet(self, request: RegistryRequest) -> None:
        """Admit a client that asks whether this is a registry, to learn of the challenge.

        :raises Unauthorized: if it has not authenticated, although it could.
        """
        if not self.is_open and not _sent(request):
            self._challenge(request)
            raise Unauthorized(_TOKEN if self._guard.anonymous_may else "")

    def permit(self, request: RegistryRequest, name: str, tag: str | None = None) -> str:
        """Let the sender of a request pull an image.

        :param tag: none for what is named by its digest.
        :return: the name as which it may be pulled: see :meth:`nixery.access.guard.Guard.permit`.
        :raises Denied: if the client may not.
        :raises Unauthorized: if better credentials are needed.
        :raises NameInvalid: if that is no name of an image.
        """
        try:
            return self._guard.permit(request.who, name, tag)
        except Unauthorized:
            self._challenge(request, ',error="insufficient_scope"')
            raise

    def may_see(self, request: RegistryRequest, name: str, tag: str | None = None) -> bool:
        """Whether the sender of a request may know of an image.

        :param tag: none for the name as such.
        """
        try:
            self._guard.permit(request.who, name, tag)
        except (Denied, Unauthorized, NameInvalid):
            return False
        return True

    def somebody_may(self, image: Image) -> bool:
        """Whether there is anybody who may pull an image."""
        rules = self._guard.rules
        return rules is None or rules().allow_somebody(image.name, image.tag)

    def censored(self, request: RegistryRequest, error: NixeryError) -> NixeryError:
        """An error without the names of packages that the sender of a request may not pull."""
        match error:
            case UnknownPackage(nearest=names, meant=packages):
                seen = [name for name in names if self.may_see(request, name)]
                meant = [each for each in packages if self.may_see(request, each.name)]
                return attrs.evolve(error, nearest=seen, meant=meant)
            case NotAPackage(inside=names):
                seen = [name for name in names if self.may_see(request, name)]
                return attrs.evolve(error, inside=seen)
            case _:
                return error

    def token(self, request: RegistryRequest) -> bytes | None:
        """Answer with a token for the client, which has been identified.

        :return: nothing if tokens are not to be had here.
        :raises Unauthorized: if anonymous clients may have nothing.
        """
        if self.is_open or self._token_server is not None:
            return None
        sent = _sent(request)
        if not sent and not self._guard.anonymous_may:
            self._challenge(request)
            raise Unauthorized()
        token = wrapped(sent[0]) if sent else ANONYMOUS_TOKEN
        document = {"token": token, "access_token": token, "expires_in": _LIFETIME}
        request.setHeader(b"Cache-Control", b"no-store")
        return describe_json(request, document)

    async def _who(self, request: RegistryRequest) -> Who:
        credentials = self._guard.credentials
        headers = _sent(request)
        if credentials is None or not headers:
            return ANONYMOUS
        if len(headers) > 1:
            raise Unauthorized(_UNCLEAR)
        return await credentials.who(headers[0], request.network)

    def _challenge(self, request: RegistryRequest, error: str = "") -> None:
        """Say how to get credentials, in the way that clients understand."""
        if self._token_server is not None:
            server = self._token_server
        elif self._guard.anonymous_may and request.route.in_registry:
            server = TokenServer(f"{request.origin}/token", request.asked_host)
        else:
            request.setHeader(b"WWW-Authenticate", b'Basic realm="Nixery", charset="UTF-8"')
            return
        name = request.variables.get("name", "") if request.route.in_registry else ""
        scope = f',scope="repository:{name}:pull"' if _NAME.fullmatch(name) else ""
        value = f'Bearer realm="{server.realm}",service="{server.service}"{scope}{error}'
        request.setHeader(b"WWW-Authenticate", value.encode("latin-1"))


def _sent(request: RegistryRequest) -> list[str]:
    """The request's ``Authorization`` headers, but for those that are empty."""
    headers = request.requestHeaders.getRawHeaders(b"authorization", [])
    decoded = (header.decode("latin-1") for header in headers)
    return [header for header in decoded if not is_empty(header)]


OPEN = Auth(Guard())
"""Lets everybody pull everything."""
