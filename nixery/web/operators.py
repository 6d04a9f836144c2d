"""Requests of operators: who may make them, and what they send and get."""

import json
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

from nixery.access.api_token import OperatorAccess
from nixery.http.answers import BODY_INVALID, RefusedRequest, describe_json
from nixery.http.request import RegistryRequest, SmallBody
from nixery.model.request_errors import Unauthorized

_log = Logger()


def check_operator(operators: OperatorAccess, request: RegistryRequest) -> None:
    """Check that a request is an operator's.

    :raises Unauthorized: if it is not.
    """
    headers = request.requestHeaders.getRawHeaders(b"authorization", [])
    try:
        operators.check(headers[0].decode("latin-1") if len(headers) == 1 else "")
    except Unauthorized:
        request.setHeader(b"WWW-Authenticate", b'Bearer realm="Nixery API"')
        if headers:
            _log.info("{client}: the API token was refused", client=request.sender)
        raise


def object_in(request: RegistryRequest, expected: str) -> Mapping[str, Any]:
    """The JSON object that a request's body is.

    :param expected: the message for one that is something else.
    :raises RefusedRequest: if it is.
    """
    body = request.body.content if isinstance(request.body, SmallBody) else b""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RefusedRequest(BODY_INVALID, expected)
    return document


def answer_operator(request: RegistryRequest, document: Any) -> bytes:
    """Answer with a document that is not to be kept.

    :return: the body.
    """
    request.setHeader(b"Cache-Control", b"no-store")
    return describe_json(request, document)
