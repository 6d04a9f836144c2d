"""Bodies of answers that are kept whole are bounded."""

from typing import Any
from unittest.mock import Mock

import pytest

from nixery.storage.objects.http_bodies import read_body


def test_a_body_without_an_end() -> None:
    """What is larger than anything that is asked for is not read on, and its connection closed."""
    response, connection = Mock(), Mock(_producer=Mock())
    failures: list[Any] = []
    reading = read_body(response).addErrback(failures.append)
    (body,) = response.deliverBody.call_args.args
    body.makeConnection(connection)
    piece = bytes(1 << 20)
    for _ in range(16):
        body.dataReceived(piece)
    assert not reading.called
    for _ in range(3):
        body.dataReceived(piece)
    (failure,) = failures
    with pytest.raises(ValueError, match="the answer has more than 16,777,216 bytes"):
        failure.raiseException()
    connection._producer.abortConnection.assert_called_once_with()
    body.connectionLost()
