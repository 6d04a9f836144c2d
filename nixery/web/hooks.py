"""What the package source's forge tells the daemon: ``POST /hooks/source`` after a push.

Forges show that they know the secret in three ways: GitHub, Gitea, Forgejo and Bitbucket sign what
they send by HMAC-SHA256; GitLab sends the secret itself in a header of its own; others can send it
as a bearer token. What is said of the push does not matter, so that nothing of a body is kept.
"""

import hmac
from collections.abc import Callable, Mapping

from klein import Klein
from twisted.logger import Logger

from nixery.access.api_token import bearer_token, is_same
from nixery.http.answers import NOT_FOUND, RefusedRequest, describe_json
from nixery.http.operation import Answers, Operation
from nixery.http.request import RegistryRequest, RequestBody
from nixery.http.routes import Route
from nixery.model.request_errors import Unauthorized

_SIGNATURES = (b"x-hub-signature-256", b"x-gitea-signature", b"x-forgejo-signature")
_BITBUCKETS = b"x-hub-signature"
"""GitHub's header of this name has an HMAC-SHA1, which it sends besides the other."""
_TOKEN = b"x-gitlab-token"
_EVENTS = (b"x-github-event", b"x-gitea-event", b"x-gitlab-event", b"x-event-key")
_PING = ("ping", "diagnostics:ping")


class SignedBody(RequestBody):
    """A body of which only the signature is kept."""

    most = 25 * 1024 * 1024  # bytes: GitHub sends no more

    def __init__(self, secret: str) -> None:
        self._signature = hmac.new(secret.encode("ascii"), digestmod="sha256")

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self._signature.update(data)

    @property
    def signature(self) -> str:
        """HMAC-SHA256 of what has come, in hexadecimal digits."""
        return self._signature.hexdigest()


class HooksApi:
    """Answers ``/hooks/source``."""

    app = Klein()
    _log = Logger()

    def __init__(self, secret: Callable[[], str] | None, pushed: Callable[[], object]) -> None:
        """
        :param secret: gives the present secret; none if nothing is taken.
        :param pushed: called when the source has changed.
        """
        self.bodies: Mapping[bytes, Callable[[], RequestBody]] = {b"hooks": self._body}
        self._secret = secret
        self._pushed = pushed

    @app.route(
        "/hooks/source",
        endpoint=Route(
            operator=True,
            methods=(b"POST",),
            operations={
                b"POST": Operation({202: Answers("The source will be asked anew.")}),
            },
        ),
    )
    def source(self, request: RegistryRequest) -> bytes:
        """Take note of a push to the package source, by its forge."""
        if self._secret is None:
            raise RefusedRequest(NOT_FOUND, "no webhook secret is set here")
        if not self._is_signed(request, self._secret()):
            request.setHeader(b"WWW-Authenticate", b'Bearer realm="Nixery webhook"')
            self._log.info("{client}: a webhook was refused", client=request.sender)
            raise Unauthorized("the signature or token does not match the webhook secret")
        if not any(request.header(name) in _PING for name in _EVENTS):
            self._pushed()
        request.setResponseCode(202)
        return describe_json(request, {})

    def _body(self) -> RequestBody:
        return RequestBody() if self._secret is None else SignedBody(self._secret())

    def _is_signed(self, request: RegistryRequest, secret: str) -> bool:
        """Whether a request shows the secret in one way or more, and in none a wrong one."""
        body = request.body if isinstance(request.body, SignedBody) else SignedBody(secret)
        shown = [request.header(name).removeprefix("sha256=") for name in _SIGNATURES]
        if (signature := request.header(_BITBUCKETS)).startswith("sha256="):
            shown.append(signature.removeprefix("sha256="))
        checks = [is_same(each.lower(), body.signature) for each in shown if each]
        tokens = (request.header(_TOKEN), bearer_token(request.header(b"authorization")))
        checks += [is_same(token, secret) for token in tokens if token]
        return bool(checks) and all(checks)
