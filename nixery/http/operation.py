"""How a route describes itself to programs, in the terms of OpenAPI: beside the route itself.

https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

JSON = "application/json"
HTML = "text/html"
_TEXT = {"type": "string"}


@attrs.frozen
class Answers:
    """An answer that is no error.

    :param text: what it means.
    :param schema: of its body, if that is JSON; an empty one for any.
    :param media_type: of its body; empty for none.
    :param others: media types of other forms of it, for clients that prefer them.
    """

    text: str
    schema: Mapping[str, Any] = attrs.Factory(dict)
    media_type: str = JSON
    others: Sequence[str] = ()


@attrs.frozen
class Operation:
    """What one method of a route does.

    :param text: a sentence; empty for that of the handler.
    :param answers: by status.
    :param query: the parameters of its query, with what each means.
    :param body: the schema of the request's body; none if it has none.
    """

    answers: Mapping[int, Answers]
    text: str = ""
    query: Mapping[str, str] = attrs.Factory(dict)
    body: Mapping[str, Any] | None = None


def text_answers(media_type: str, *others: str) -> Mapping[bytes, Operation]:
    """A route of which all is said by its handler, and by the forms of its answer.

    :param others: see :attr:`Answers.others`.
    """
    return {b"GET": Operation({200: Answers("Success.", _TEXT, media_type, others)})}
