"""How a route describes itself to programs, in the terms of OpenAPI: beside the route itself.

https://spec.openapis.org/oas/v3.1.1.html
"""

from collections.abc import Mapping
from typing import Any

import attrs

JSON = "application/json"


@attrs.frozen
class Answers:
    """An answer that is no error.

    :param text: what it means.
    :param schema: of its body, if that is JSON; an empty one for any.
    :param media_type: of its body; empty for none.
    """

    text: str
    schema: Mapping[str, Any] = attrs.Factory(dict)
    media_type: str = JSON


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
